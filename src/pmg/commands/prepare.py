"""``pmg-prepare``: builds a catalogue from its published sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pmg.commands.launch import launch
from pmg.config import instantiate

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pmg.run import Run


def body(cfg: DictConfig, run: Run) -> float | None:
    """Builds a catalogue from its published sources."""
    with run.ledger.phase("build"):
        run.metrics.update(instantiate(cfg.artwork))
    return None


def main() -> None:
    """Console entry point."""
    launch("prepare", body)


if __name__ == "__main__":
    main()
