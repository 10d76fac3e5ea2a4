"""``pmg-generate``: generates images for test users with every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from pmg.configuration.identity import hash_images
from pmg.configuration.instantiate import instantiate
from pmg.orchestration.builders import Builder, warn_of_other_pictures
from pmg.orchestration.hardware import check_device
from pmg.orchestration.launcher import launch
from pmg.orchestration.preference_sources import (
    build_methods,
    build_sources,
    check_labels,
    check_sources,
    hash_sources,
)
from pmg.orchestration.run import Run, tracked
from pmg.orchestration.sharding import is_sharded, own_shard, run_missing_shards

if TYPE_CHECKING:
    from pmg.domain import Example
    from pmg.generation.alpha import AlphaRule
    from pmg.generation.requests import Preference, RequestBuilder
    from pmg.preferences.sources import PreferenceSource
    from pmg.records.shards import Shard


@tracked
def body(cfg: DictConfig, run: Run) -> None:
    """Generates images for test users with every method."""
    from pmg.evaluation.tracker_logging import record_samples
    from pmg.generation.dataset_generation import DatasetGenerator, leave_out_control, list_keys
    from pmg.generation.pipeline import build_pipeline
    from pmg.models.compilation import compile_models
    from pmg.records.shards import merge_records
    from pmg.records.storage import RECORDS, RecordWriter

    check_device(cfg.device)
    builder = Builder(cfg, run)
    methods = build_methods(cfg.method, cfg.mismatched)
    sources = build_sources(cfg.preference, methods)
    check_sources(builder.masked | builder.content, sources)
    examples, data = builder.examples(cfg.split), builder.data
    check_labels(sources, examples)
    methods = leave_out_control(methods, examples)
    if cfg.shard.index is None:
        warn_of_other_pictures(cfg.generator, run.choices.get("data"), data, examples)
    if is_sharded(cfg.shard):
        parts = run_missing_shards(cfg, run, "generate", body)
        merge_records(parts, run.folder, list_keys(examples, methods, builder.seed))
    else:
        hashes, shard = {"config": hash_images(builder.identity), "dtype": str(cfg.dtype)}, own_shard(cfg.shard)
        pipeline = build_pipeline(cfg, cfg.device)
        if cfg.compile:
            compile_models(pipeline.generator, None, Path(cfg.paths.cache_dir, "compiled"))
        builder.generator = pipeline.generator
        requests, preferences = _read(builder, examples, sources, instantiate(cfg.balance.alpha_rule), shard)
        run.begin()
        dataset_generator = DatasetGenerator(
            pipeline, requests, preferences, RecordWriter(run.folder), batch_size=cfg.sampling.batch_size,
            hashes=hashes, sources=hash_sources(builder.masked["preference"], sources, builder.content),
            shard=shard,
        )  # fmt: skip
        with run.ledger.phase("generate"):
            try:
                dataset_generator.run(examples, methods)
            finally:
                run.ledger.count("images", dataset_generator.made)
                run.ledger.count("denoiser_evaluations", pipeline.evaluations)
    run.record_digest(RECORDS)
    if cfg.shard.index is None:
        record_samples(run.tracking, run.folder, examples, list(methods), cfg.sheet_users, data.labels)


def _read(
    builder: Builder, examples: Sequence[Example], sources: Mapping[str, PreferenceSource], alpha_rule: AlphaRule,
    shard: Shard,
) -> tuple[RequestBuilder, dict[str, Preference]]:  # fmt: skip
    """Reads histories, a shard its part first, which others find in the cache; returns builder and preferences."""
    from pmg.generation.requests import RequestBuilder
    from pmg.generation.user_reading import read_users
    from pmg.preferences.extraction import select_part
    from pmg.preferences.keyword_sources import negative_prompt

    captions = builder.captions(examples)
    with builder.extractor(builder.generator.text_encoder, builder.generator) as extractor:
        preferences = read_users(
            examples, captions, extractor, sources,
            lambda users, extracted: builder.source_context(users, captions, extractor, extracted),
            pixels=builder.pixels(), phase=builder.run.ledger.phase,
            first=select_part(examples, shard.index, shard.count) if shard.count > 1 else [],
        )  # fmt: skip
        targets = extractor.targets(examples)
    avoided = negative_prompt(extractor.scenario.negative_prompt)
    return RequestBuilder(targets, alpha_rule, builder.seed, avoided), preferences


main = partial(launch, "generate", body)

if __name__ == "__main__":
    main()
