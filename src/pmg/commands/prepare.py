"""``pmg-prepare``: makes a data set from its published files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pmg.configuration.instantiate import instantiate
from pmg.orchestration.launcher import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pmg.orchestration.run import Run


def body(cfg: DictConfig, run: Run) -> float | None:
    """Makes a data set from its published files."""
    run.begin()
    with run.ledger.phase("build"):
        counts = instantiate(cfg.source)
    run.metrics.update(counts)
    for name, value in counts.items():
        print(f"{name}: {value}")
    return None


def main() -> None:
    """Console entry point."""
    launch("prepare", body)


if __name__ == "__main__":
    main()
