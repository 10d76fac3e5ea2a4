"""``pmg-pretrain``: trains one embedded model: autoencoder, denoiser, scorer or judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pmg.commands.launch import launch
from pmg.commands.parts import fit
from pmg.commands.ranks import processes
from pmg.config import instantiate
from pmg.domain import PmgError
from pmg.provenance import hardware
from pmg.run import Run, tracked

if TYPE_CHECKING:
    from omegaconf import DictConfig


@tracked
def body(cfg: DictConfig, run: Run) -> float | None:
    """Trains one embedded model: autoencoder, denoiser, scorer or judge."""
    from pmg.evaluation.model_card import write_model_card

    if processes(cfg.trainer) > 1:
        raise PmgError("pmg-pretrain trains in one process: trainer.devices=1")
    with run.ledger.phase("load"):
        data = instantiate(cfg.data)
        stage = instantiate(cfg.stage)
        module, batches = stage.build(data, cfg.seed or 0)
    trainer = fit(cfg, run, module, batches)
    with run.ledger.phase("measure"):
        quality = stage.finish(data)
    run.measure(quality)
    facts = {
        "steps": trainer.global_step,
        "batch size": cfg.stage.batch_size,
        "minutes of this run": round(run.ledger.seconds["train"] / 60, 1),
        "trainable parameters": f"{run.ledger.counts['trainable_parameters']:,}",
        "hardware": hardware()["processor"],
    }
    picture = instantiate(cfg.picture, data=data) if cfg.picture else None
    write_model_card(Path(cfg.card.folder), cfg.card, quality, facts, picture)
    run.tracking.record_artifact(Path(cfg.card.folder).name, "model", Path(cfg.card.folder))
    return None


def main() -> None:
    """Console entry point."""
    launch("pretrain", body)


if __name__ == "__main__":
    main()
