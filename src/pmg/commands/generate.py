"""``pmg-generate``: generates images for test users with every method."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pmg.configuration.identity import hash_images
from pmg.configuration.instantiate import instantiate
from pmg.orchestration.builders import build_captions, build_examples, item_pixels, open_extractor
from pmg.orchestration.generator_data import warn_of_other_pictures
from pmg.orchestration.hardware import check_device
from pmg.orchestration.launcher import launch
from pmg.orchestration.preference_sources import (
    build_context,
    build_methods,
    build_preferences,
    build_sources,
    check_labels,
    check_sources,
    gather_requirements,
    hash_sources,
)
from pmg.orchestration.run import Run, tracked
from pmg.orchestration.sharding import is_sharded, own_shard, run_missing_shards
from pmg.runs.run_folder import identify

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from omegaconf import DictConfig

    from pmg.data.dataset import Dataset
    from pmg.domain import Example
    from pmg.generation.requests import Method, Preference, RequestBuilder
    from pmg.models.diffusion.interfaces import Generator
    from pmg.preferences.sources import PreferenceSource


@tracked
def body(cfg: DictConfig, run: Run) -> float | None:
    """Generates images for test users with every method."""
    from pmg.evaluation.tracker_logging import record_samples
    from pmg.generation.dataset_generation import list_keys
    from pmg.generation.record_shards import merge_records

    check_device(cfg.device)
    methods = build_methods(cfg)
    sources = build_sources(cfg, methods)
    check_sources(cfg, sources)
    data = instantiate(cfg.data)
    examples = build_examples(cfg, data, cfg.split)
    check_labels(sources, examples)
    if cfg.shard.index is None:
        warn_of_other_pictures(cfg, run, data, examples)
    if is_sharded(cfg):
        parts = run_missing_shards(cfg, run, "generate", body)
        merge_records(parts, run.folder, list_keys(examples, methods, cfg.seed or 0))
    else:
        _generate(cfg, run, data, examples, methods, sources)
    if cfg.shard.index is None:
        record_samples(run.tracking, run.folder, examples, list(methods), cfg.sheet_users, data.labels)
    return None


def _generate(
    cfg: DictConfig, run: Run, data: Dataset, examples: Sequence[Example], methods: Mapping[str, Method],
    sources: Mapping[str, PreferenceSource],
) -> None:  # fmt: skip
    """Generates this process's shard of the images."""
    from pmg.generation.dataset_generation import DatasetGenerator
    from pmg.generation.pipeline import build_pipeline
    from pmg.generation.records import RecordWriter
    from pmg.models.compilation import compile_models

    hashes = {"config": hash_images(identify(cfg, "generate")), "dtype": str(cfg.dtype)}
    pipeline = build_pipeline(cfg, cfg.device)
    if cfg.compile:
        compile_models(pipeline.generator, None, Path(cfg.paths.cache_dir, "compiled"))
    builder, preferences = _read(cfg, run, data, examples, pipeline.generator, sources)
    run.begin()
    writer = RecordWriter(run.folder)
    dataset_generator = DatasetGenerator(
        pipeline, builder, preferences, writer, batch_size=cfg.sampling.batch_size, hashes=hashes,
        sources=hash_sources(cfg, sources), shard=own_shard(cfg),
    )  # fmt: skip
    with run.ledger.phase("generate"):
        try:
            dataset_generator.run(examples, methods)
        finally:
            run.ledger.count("images", dataset_generator.made)
            run.ledger.count("denoiser_evaluations", pipeline.evaluations)


def _read(
    cfg: DictConfig, run: Run, data: Dataset, examples: Sequence[Example], generator: Generator,
    sources: Mapping[str, PreferenceSource],
) -> tuple[RequestBuilder, dict[str, Preference]]:  # fmt: skip
    """Reads the histories; returns the builder of requests, and the preference of each profile."""
    from pmg.generation.requests import RequestBuilder
    from pmg.preferences.keyword_sources import negative_prompt

    captions, needed = build_captions(cfg, run, data, examples), gather_requirements(sources)
    with open_extractor(cfg, run, generator.text_encoder) as extractor:
        with run.ledger.phase("read histories"):
            extracted = extractor.extract(
                examples, captions, needed.decodings, needed.dislikes, pixels=item_pixels(data)
            )
            targets = extractor.targets(examples)
        with run.ledger.phase("build preferences"):
            context = build_context(
                cfg, data, examples, captions, extractor=extractor, extracted=extracted, generator=generator
            )
            preferences = build_preferences(sources, context)
    avoided = negative_prompt(extractor.scenario.negative_prompt)
    return RequestBuilder(targets, instantiate(cfg.balance.alpha_rule), cfg.seed or 0, avoided), preferences


def main() -> None:
    """Console entry point."""
    launch("generate", body)


if __name__ == "__main__":
    main()
