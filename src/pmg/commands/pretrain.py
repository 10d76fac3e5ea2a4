"""``pmg-pretrain``: trains one embedded model: autoencoder, denoiser, scorer or judge."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from pmg.cache import replace_folder
from pmg.configuration.instantiate import instantiate
from pmg.domain import PmgError
from pmg.orchestration.builders import Builder
from pmg.orchestration.distributed import world_size
from pmg.orchestration.hardware import check_trainer
from pmg.orchestration.launcher import launch
from pmg.orchestration.run import Run, tracked
from pmg.paths import display_path, is_same_folder
from pmg.runs.owned_folders import claim, locked, refuse_assets, refuse_foreign
from pmg.runs.provenance import hardware

log = logging.getLogger(__name__)


@tracked
def body(cfg: DictConfig, run: Run) -> None:
    """Trains one embedded model: autoencoder, denoiser, scorer or judge."""
    from pmg.evaluation.model_card import OPERATIONS, STEPS, STEPS_BEFORE, read_steps, write_model_card
    from pmg.training.callbacks import StepOperations

    check_trainer(cfg.trainer)
    if world_size(cfg.trainer) > 1:
        raise PmgError("pmg-pretrain trains in one process: trainer.devices=1")
    steps = 0 if cfg.trainer.get("fast_dev_run") else cfg.trainer.max_steps
    start, card = cfg.stage.get("start"), Path(cfg.card.folder)
    for key, folder in (("stage.folder", Path(cfg.stage.folder)), ("card.folder", card)):
        if not folder.resolve().is_relative_to(run.folder.resolve()):
            raise PmgError(f"{key}={folder} lies outside of run_dir: leave it out; `into` puts the model elsewhere")
    pool = (cfg.stage.get("pool") or {}).get("folder")
    others = {"stage.pool.folder": pool, "into": None if cfg.into == "assets" else cfg.into}
    for key, named in others.items():
        if named:
            refuse_assets(Path(named), cfg.paths.assets_dir, key)
    folders = [Path(named) for named in others.values() if named]
    outside = [folder for folder in folders if not folder.resolve().is_relative_to(run.folder.resolve())]
    refuse_foreign(outside, run.folder, run.command, {}, cfg.paths.assets_dir)
    earlier = Path(start, card.relative_to(cfg.stage.folder)) if start else None  # that is trained further
    before = read_steps(earlier) if earlier else 0
    into = Path(cfg.paths.assets_dir if cfg.into == "assets" else cfg.into) if cfg.into else None
    replaces_assets = into is not None and is_same_folder(into, cfg.paths.assets_dir)
    if replaces_assets:
        refuse_short(steps + before, cfg.full_steps, cfg.run_dir)
    builder = Builder(cfg, run)
    claim(folders, run.folder, run.command, builder.identity)  # before a pool is made, which others may read
    with run.ledger.phase("load"):
        data, stage = builder.data, instantiate(cfg.stage)
        module, batches = stage.build(data, builder.seed)
    run.begin()
    operations = StepOperations()
    trainer = builder.fit(module, batches, operations)
    run.ledger.count("operations_a_step", operations.counted)
    with run.ledger.phase("measure"):
        quality = stage.save_and_evaluate((module, batches), data)
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
    learned_from = describe_data(cfg.card.data, name, start)
    write_model_card(card, {**cfg.card, "data": learned_from}, quality, facts, picture, name)
    run.tracking.record_artifact(card.name, "model", card)
    if replaces_assets:
        refuse_short(trainer.global_step + before, cfg.full_steps, cfg.run_dir)
    if into:
        install(run.folder / "model", into, None if cfg.into == "assets" else str(cfg.paths.assets_dir))
    if not replaces_assets:
        print(f"what builds on it finds the model with paths.models_dir={display_path(into or run.folder / 'model')}")


def describe_data(sentences: Mapping[str, str], option: str | None, start: str | None) -> str:
    """Returns what a model learned from, by the chosen option of ``data``, after the weights in `start`, if any."""
    if option and option in sentences:
        return str(sentences[option])
    return f"Pictures of `data={option}`" + (f", from the weights in `{start}`." if start else ".")


def refuse_short(steps: int, full: int, run_dir: str) -> None:
    """Checks that a training is as long as its stage, to replace a shipped model by it, else raises PmgError."""
    if steps < full:
        raise PmgError(
            f"into=assets would replace a shipped model after {steps} of {full} steps. "
            f"Leave `into` out (the model goes to {run_dir}/model), or name another folder."
        )


def install(models: Path, folder: Path, protected: str | None = None) -> None:
    """Puts each model of a folder in place of the one of the same name in another, each as a whole.

    PmgError if another process writes there, or a link leads into the `protected` assets.
    """
    with locked([folder], "pretrain"):
        for model in sorted({path.parent for path in models.rglob("*.json")}):
            if protected:
                refuse_assets(folder / model.relative_to(models), protected, "into")
            replace_folder(model, folder / model.relative_to(models))
            log.info("%s is now that of %s", folder / model.relative_to(models), models)


main = partial(launch, "pretrain", body)

if __name__ == "__main__":
    main()
