"""``pmg-pretrain``: trains one embedded model: autoencoder, denoiser, scorer or judge."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from pmg.cache import replace_folder
from pmg.configuration.instantiate import instantiate
from pmg.domain import PmgError
from pmg.orchestration.builders import fit
from pmg.orchestration.distributed import world_size
from pmg.orchestration.hardware import check_hardware
from pmg.orchestration.launcher import launch
from pmg.orchestration.run import Run, tracked
from pmg.paths import is_same_folder
from pmg.runs.locks import locked
from pmg.runs.provenance import hardware

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)


@tracked
def body(cfg: DictConfig, run: Run) -> float | None:
    """Trains one embedded model: autoencoder, denoiser, scorer or judge."""
    from pmg.evaluation.model_card import OPERATIONS, STEPS, STEPS_BEFORE, read_steps, write_model_card
    from pmg.training.callbacks import StepOperations

    if world_size(cfg.trainer) > 1:
        raise PmgError("pmg-pretrain trains in one process: trainer.devices=1")
    check_hardware(cfg)
    steps = 0 if cfg.trainer.get("fast_dev_run") else cfg.trainer.max_steps
    earlier = earlier_model(cfg)
    before = read_steps(earlier) if earlier else 0
    refuse_short(cfg, steps + before)
    with run.ledger.phase("load"):
        data = instantiate(cfg.data)
        stage = instantiate(cfg.stage)
        module, batches = stage.build(data, cfg.seed or 0)
    run.begin()
    operations = StepOperations()
    trainer = fit(cfg, run, module, batches, operations)
    run.ledger.count("operations_a_step", operations.counted)
    with run.ledger.phase("measure"):
        quality = stage.save_and_evaluate(data)
    run.measure(quality)
    facts = {
        STEPS: trainer.global_step,
        **({STEPS_BEFORE: before} if earlier else {}),
        "batch size": cfg.stage.batch_size,
        **({OPERATIONS: f"{operations.counted / 1e9:.2f}"} if operations.counted else {}),
        "minutes of the last process": round(run.ledger.seconds["train"] / 60, 1),
        "trainable parameters": f"{run.ledger.counts['trainable_parameters']:,}",
        "hardware": hardware()["processor"],
    }
    picture = instantiate(cfg.picture, data=data) if cfg.picture else None
    name = run.choices.get("data")
    card = {**cfg.card, "data": describe_data(cfg, name)}
    write_model_card(Path(cfg.card.folder), card, quality, facts, picture, name)
    run.tracking.record_artifact(Path(cfg.card.folder).name, "model", Path(cfg.card.folder))
    if cfg.into:
        refuse_short(cfg, trainer.global_step + before)
        install(run.folder / "model", destination(cfg))
    return None


def destination(cfg: DictConfig) -> Path:
    """Returns the folder that `cfg.into` names."""
    return Path(cfg.paths.assets_dir if cfg.into == "assets" else cfg.into)


def describe_data(cfg: DictConfig, name: str | None) -> str:
    """Returns what a model learned from: the card's sentence for the option of ``data``, or that option's name."""
    if name in cfg.card.data:
        return str(cfg.card.data[name])
    start = cfg.stage.get("start")
    return f"Pictures of `data={name}`" + (f", from the weights in `{start}`." if start else ".")


def earlier_model(cfg: DictConfig) -> Path | None:
    """Returns the folder of the model that ``stage.start`` trains further; None for a training from scratch."""
    start = cfg.stage.get("start")
    return Path(start, Path(cfg.card.folder).relative_to(cfg.stage.folder)) if start else None


def refuse_short(cfg: DictConfig, steps: int) -> None:
    """Checks that a training of so many steps may replace the models in `cfg.into`.

    Raises:
        PmgError: `cfg.into` is the assets folder and the training is shorter than the whole stage.
    """
    if not cfg.into or not is_same_folder(destination(cfg), cfg.paths.assets_dir):
        return
    if steps < cfg.full_steps:
        raise PmgError(
            f"into={cfg.into} would replace a shipped model after {steps} of {cfg.full_steps} steps. "
            f"Leave `into` out (the model goes to {cfg.run_dir}/model), or name another folder."
        )


def install(models: Path, folder: Path) -> None:
    """Puts each model of a folder in place of the one of the same name in another, each as a whole.

    Raises:
        PmgError: another process writes into the other folder.
    """
    with locked([folder], "pretrain"):
        for model in sorted({path.parent for path in models.rglob("*.json")}):
            replace_folder(model, folder / model.relative_to(models))
            log.info("%s is now that of %s", folder / model.relative_to(models), models)


def main() -> None:
    """Console entry point."""
    launch("pretrain", body)


if __name__ == "__main__":
    main()
