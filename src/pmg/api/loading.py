"""Loads the parts of a `PersonalizedPipeline` from a shared folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pmg.api.components import Component
from pmg.api.serialization import METHODS, PREFERENCE, read_index
from pmg.cache import NoCache
from pmg.configuration.targets import check_plugin
from pmg.generation.pipeline import build_pipeline
from pmg.models.loading.device import emulates_bfloat16, to_device
from pmg.models.loading.weight_sources import download, load_frozen
from pmg.preferences.captioning import MetadataCaptioner
from pmg.preferences.extraction import PreferenceExtractor
from pmg.preferences.keywords import Budget
from pmg.preferences.scenarios import Scenario
from pmg.preferences.target_names import TargetNames
from pmg.runs.run_folder import EXPORTED_ENCODER


def load_parts(
    source: str | Path, device: str, cache_dir: str | None, trust: Sequence[str], scenario: Scenario | None
) -> dict[str, Any]:
    """Returns the constructor's arguments of the pipeline in a folder, see `PersonalizedPipeline.from_pretrained`."""
    trusted = [check_plugin(name) for name in trust]
    folder = Path(source) if Path(source).is_dir() else download(str(source), f"'{source}' is no folder here")
    cache = cache_dir or os.environ.get("PMG_CACHE") or "outputs/cache"
    parts = read_index(folder, cache, float32=emulates_bfloat16(device), trust=trusted)
    pipeline = build_pipeline(parts, device, Component.create)
    text_encoder = pipeline.generator.text_encoder
    language_model = to_device(parts["language_model"].create().of(text_encoder), device)
    captioner = parts["captioner"]
    if scenario and captioner.build is MetadataCaptioner:
        captioner = replace(captioner, arguments={"template": scenario.caption})
    return {
        "extractor": PreferenceExtractor(
            language_model, scenario or parts["scenario"].create(), NoCache(), str(folder), Budget.of(text_encoder),
            text_encoder=text_encoder, names=TargetNames.of(pipeline.generator),
        ),
        "captioner": captioner.create(),
        "encoder": load_frozen(parts[EXPORTED_ENCODER], folder / EXPORTED_ENCODER),
        "pipeline": pipeline,
        "alpha_rule": parts["balance"]["alpha_rule"].create(),
        "inputs": parts["inputs"].create(),
        "methods": parts[METHODS],
        "sources": {name: source.create() for name, source in parts[PREFERENCE].items()},
        "source": None if scenario else folder,
    }  # fmt: skip
