"""``pmg-train``: trains the preference encoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pmg.configuration.instantiate import instantiate
from pmg.orchestration.builders import (
    build_captions,
    build_examples,
    fit,
    item_pixels,
    latents_place,
    open_extractor,
    start_from,
)
from pmg.orchestration.distributed import run_distributed
from pmg.orchestration.generator_data import warn_of_other_pictures
from pmg.orchestration.hardware import check_hardware
from pmg.orchestration.launcher import launch
from pmg.orchestration.run import Run, tracked
from pmg.runs.finished_training import ENCODER, sign_encoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from omegaconf import DictConfig

    from pmg.training.preference import PreferenceTraining


def body(cfg: DictConfig, run: Run) -> float | None:
    """Trains the preference encoder, in as many processes as the trainer's config has."""
    check_hardware(cfg)
    return run_distributed(train, cfg, run)


@tracked
def train(cfg: DictConfig, run: Run) -> float | None:
    """Trains the preference encoder in this process, alone or as one of several."""
    from pmg.models.compilation import compile_models
    from pmg.models.loading.device import to_device
    from pmg.training.preference import FrozenModels
    from pmg.training.preference_setup import build_batches, build_module, encode_texts, list_samples

    encoder = instantiate(cfg.preference_encoder)
    if cfg.init_from:
        encoder = start_from(encoder, cfg.init_from)
    data = instantiate(cfg.data)
    train, validation = (build_examples(cfg, data, split) for split in ("train", "validation"))
    if run.is_main:
        warn_of_other_pictures(cfg, run, data, train)
    generator = to_device(instantiate(cfg.generator), cfg.device)
    captions = build_captions(cfg, run, data, [*train, *validation])
    with open_extractor(cfg, run, generator.text_encoder) as extractor:
        with run.ledger.phase("read histories"):
            decoding = instantiate(cfg.decoding)
            extracted = extractor.extract([*train, *validation], captions, [decoding], pixels=item_pixels(data))
            targets = extractor.describe([example.target for example in (*train, *validation)])
        inputs = instantiate(cfg.inputs)(extracted, [*train, *validation], data.images)
        with run.ledger.phase("encode catalogue"):
            texts, text_embeddings = encode_texts(
                extracted.keywords(decoding), list(targets.values()), generator.text_encoder, cfg.keep_contexts
            )
            batches = build_batches(
                list_samples(train, validation, extracted, list(targets), data.taste_label), inputs, data.images,
                generator, instantiate(cfg.objective.batches), users_per_step=cfg.objective.users_per_step,
                seed=cfg.seed or 0, latents_place=latents_place(cfg, data),
            )  # fmt: skip
        module = build_module(
            FrozenModels(extractor.language_model, generator), inputs, texts, text_embeddings, encoder,
            build_objective(cfg),
        )  # fmt: skip
        if cfg.compile:
            compile_models(generator, extractor.language_model, Path(cfg.paths.cache_dir, "compiled"))
        run.begin()
        fit(cfg, run, module, batches)
        # in every process: each may hold parts of the language model
        module.recalibrate_statistics(batches.train.rows)
    if not run.is_main:
        return None
    module.encoder.save_pretrained(run.folder / ENCODER)
    sign_encoder(run.folder)
    run.tracking.record_artifact("encoder", "model", run.folder / ENCODER)
    return run.metrics.get("val/denoise")


def build_objective(cfg: DictConfig) -> Callable[..., PreferenceTraining]:
    """Returns the training module without its models and data."""
    return instantiate(
        cfg.objective.module, optimizer=instantiate(cfg.optimizer), lr_scheduler=instantiate(cfg.lr_scheduler)
    )


def main() -> None:
    """Console entry point."""
    launch("train", body)


if __name__ == "__main__":
    main()
