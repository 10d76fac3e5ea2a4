"""``pmg-pretrain``: trains one embedded model: autoencoder, denoiser, scorer or judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pmg.commands.launch import launch
from pmg.commands.parts import fit
from pmg.config import instantiate

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pmg.run import Run


def body(cfg: DictConfig, run: Run) -> float | None:
    """Trains one embedded model: autoencoder, denoiser, scorer or judge."""
    with run.ledger.phase("load"):
        data = instantiate(cfg.data)
        stage = instantiate(cfg.stage)
        module, batches = stage.build(data, cfg.seed or 0)
    fit(cfg, run, module, batches)
    with run.ledger.phase("measure"):
        run.metrics.update(stage.finish(data))
    return None


def main() -> None:
    """Console entry point."""
    launch("pretrain", body)


if __name__ == "__main__":
    main()
