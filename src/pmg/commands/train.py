"""``pmg-train``: trains the preference encoder."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from pmg.configuration.instantiate import instantiate, instantiate_all
from pmg.orchestration.builders import Builder, start_from, warn_of_other_pictures
from pmg.orchestration.distributed import run_distributed
from pmg.orchestration.hardware import check_device, check_trainer
from pmg.orchestration.launcher import launch
from pmg.orchestration.run import Run, tracked
from pmg.runs.run_folder import ENCODER, TRAINED


def body(cfg: DictConfig, run: Run) -> float | None:
    """Trains the preference encoder, in as many processes as the trainer's config has."""
    check_device(cfg.device)
    check_trainer(cfg.trainer)
    return run_distributed(partial(train, cfg), run, cfg.trainer, users=cfg.objective.users_per_step, seed=cfg.seed)


@tracked
def train(cfg: DictConfig, run: Run) -> float | None:
    """Trains the preference encoder in this process, alone or as one of several."""
    from pmg.models.compilation import compile_models
    from pmg.preferences.keywords import NO_WORDS
    from pmg.training.encoder_inputs import needs_contexts
    from pmg.training.preference import FrozenModels
    from pmg.training.preference_setup import build_batches, build_module, encode_texts, list_samples

    builder = Builder(cfg, run)
    encoder = instantiate(cfg.preference_encoder)
    if cfg.init_from:
        encoder = start_from(encoder, cfg.init_from)
    train, validation = (builder.examples(split) for split in ("train", "validation"))
    data = builder.data
    if run.is_main:
        warn_of_other_pictures(cfg.generator, run.choices.get("data"), data, train)
    generator, terms = builder.generator, instantiate_all(cfg.objective.module.terms)
    decodings = [instantiate(cfg.decoding)] if any(term.needs_generator for term in terms) else []
    captions = builder.captions([*train, *validation], read=bool(decodings))
    with builder.extractor(generator.text_encoder, generator) as extractor:
        with run.ledger.phase("read histories"):
            extracted = extractor.extract(
                [*train, *validation], captions, decodings, pixels=builder.pixels(), prefill=needs_contexts(cfg.inputs)
            )
            targets = extractor.describe([example.target for example in (*train, *validation)])
        inputs = instantiate(cfg.inputs)(extracted, [*train, *validation], data.images)
        with run.ledger.phase("encode catalogue"):
            texts, text_embeddings = encode_texts(
                extracted.keywords(decodings[0]) if decodings else [NO_WORDS] * len(extracted.profiles),
                list(targets.values()), generator.text_encoder, cfg.keep_contexts,
            )  # fmt: skip
            samples = list_samples(train, validation, extracted, list(targets), data.taste_label)
            accepted = builder.accepted(samples.truths, terms, text_embeddings.shape[-1], extractor.scenario)
            batches = build_batches(
                samples, inputs, generator, instantiate(cfg.objective.batches),
                users_per_step=cfg.objective.users_per_step, seed=builder.seed, **accepted,
            )  # fmt: skip
        objective = instantiate(
            cfg.objective.module, optimizer=instantiate(cfg.optimizer), lr_scheduler=instantiate(cfg.lr_scheduler)
        )
        frozen = FrozenModels(extractor.language_model, generator)
        module = build_module(frozen, inputs, texts, text_embeddings, encoder, objective)
        if cfg.compile:
            compile_models(generator, extractor.language_model, Path(cfg.paths.cache_dir, "compiled"))
        run.begin()
        builder.fit(module, batches)
        # in every process: each may hold parts of the language model
        module.recalibrate_statistics(batches.train.rows)
    if not run.is_main:
        return None
    module.encoder.save_pretrained(run.folder / ENCODER)
    run.record_digest(TRAINED)
    run.tracking.record_artifact("encoder", "model", run.folder / ENCODER)
    return run.metrics.get("val/total")


main = partial(launch, "train", body)

if __name__ == "__main__":
    main()
