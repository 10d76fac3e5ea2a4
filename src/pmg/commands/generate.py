"""``pmg-generate``: makes images for test users with every method."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pmg.configuration.identity import hash_images
from pmg.configuration.instantiate import instantiate, instantiate_by_name
from pmg.domain import Keywords
from pmg.orchestration.builders import build_captions, build_examples, reading
from pmg.orchestration.hardware import check_device
from pmg.orchestration.launcher import launch
from pmg.orchestration.preference_sources import Sources, build_preferences, check_known
from pmg.orchestration.run import Run, tracked
from pmg.orchestration.sharding import is_sharded, own_shard, run_missing_shards
from pmg.runs.run_folder import identify

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from omegaconf import DictConfig

    from pmg.data.dataset import Dataset
    from pmg.domain import Example
    from pmg.generation.requests import Method, Preference, RequestBuilder
    from pmg.models.diffusion.generator import Generator


@tracked
def body(cfg: DictConfig, run: Run) -> float | None:
    """Makes images for test users with every method."""
    from pmg.evaluation.tracker_logging import record_samples
    from pmg.generation.dataset_generation import list_keys
    from pmg.generation.record_shards import merge_records

    check_device(cfg.device)
    methods = instantiate_by_name(cfg.method)
    encoders = check_known(cfg, methods)
    data = instantiate(cfg.data)
    examples = build_examples(cfg, data, "test")
    if is_sharded(cfg):
        parts = run_missing_shards(cfg, run, "generate", body)
        merge_records(parts, run.folder, list_keys(examples, methods, cfg.seed or 0))
    else:
        _generate(cfg, run, data, examples, methods, encoders)
    if cfg.shard.index is None:
        record_samples(run.tracking, run.folder, examples, list(methods), cfg.sheet_users)
    return None


def _generate(
    cfg: DictConfig, run: Run, data: Dataset, examples: Sequence[Example], methods: Mapping[str, Method],
    encoders: Mapping[str, str],
) -> None:  # fmt: skip
    """Makes this process's part of the images."""
    from pmg.generation.dataset_generation import StudyGenerator
    from pmg.generation.pipeline import build_pipeline
    from pmg.generation.records import RecordWriter
    from pmg.models.loading.compilation import compile_models

    hashes = {"config": hash_images(identify(cfg, "generate")), "dtype": str(cfg.dtype)}
    pipeline = build_pipeline(cfg, cfg.device)
    if cfg.compile:
        compile_models(pipeline.generator, None, Path(cfg.paths.cache_dir, "compiled"))
    builder, preferences = _read(cfg, run, data, examples, pipeline.generator, methods)
    run.begin()
    writer = RecordWriter(run.folder)
    study = StudyGenerator(
        pipeline, builder, preferences, writer, cfg.sampling.batch_size, hashes, encoders, own_shard(cfg)
    )
    with run.ledger.phase("generate"):
        try:
            study.run(examples, methods)
        finally:
            run.ledger.count("images", study.made)
            run.ledger.count("denoiser_evaluations", pipeline.evaluations)


def _read(
    cfg: DictConfig, run: Run, data: Dataset, examples: Sequence[Example], generator: Generator,
    methods: Mapping[str, Method],
) -> tuple[RequestBuilder, dict[str, Preference]]:  # fmt: skip
    """What makes requests, and what is known of each user."""
    from pmg.generation.requests import NO_WORDS, RequestBuilder, join_words

    looks = build_captions(cfg, run, data, examples)
    with reading(cfg, run, generator.text_encoder) as reader:
        with run.ledger.phase("read histories"):
            readings = reader.read(examples, looks)
            targets = reader.describe([example.target for example in examples])
        prompt = reader.scenario.negative_prompt
        avoided = Keywords((prompt,)) if prompt else NO_WORDS
        negative = [reader.budget.fit(join_words(avoided, dislikes)) for dislikes in readings.negative]
        with run.ledger.phase("build preferences"):
            sources = Sources(cfg, data.images, examples, reader, readings, generator)
            preferences = build_preferences(sources, methods, negative)
    return RequestBuilder(targets, instantiate(cfg.balance.alpha_rule), cfg.seed or 0, avoided), preferences


def main() -> None:
    """Console entry point."""
    launch("generate", body)


if __name__ == "__main__":
    main()
