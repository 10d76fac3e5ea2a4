"""Loads the components of an exported pipeline from its folder or from the hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pmg.cache import NoCache
from pmg.configuration.targets import check_plugin
from pmg.generation.components import Component
from pmg.generation.pipeline import build_pipeline
from pmg.generation.serialization import read_index
from pmg.models.language_model_source import resolve_language_model
from pmg.models.loading.device import emulates_bfloat16, to_device
from pmg.models.loading.weight_sources import download, load_frozen
from pmg.preferences.captioning import MetadataCaptioner
from pmg.preferences.extraction import PreferenceExtractor
from pmg.preferences.keyword_budget import Budget
from pmg.preferences.scenarios import Scenario
from pmg.runs.run_folder import EXPORTED_ENCODER


def load_components(
    source: str, device: str, cache_dir: str, trust: Sequence[str], scenario: Scenario | None = None
) -> dict[str, Any]:
    """Returns the arguments of `PersonalizedPipeline`.

    Args:
        source: a folder, or an id on the hub.
        device: of the models; ``auto``: a GPU where there is one.
        cache_dir: of unpacked weights.
        trust: modules whose classes the folder may name.
        scenario: in place of the folder's, with its caption for a captioner of facts; None: the folder's.

    Raises:
        PmgError: there is no such pipeline, a part of it is missing, or of a plug-in that `trust` does not name.
    """
    trusted = [check_plugin(name) for name in trust]
    folder = Path(source) if Path(source).is_dir() else download(source, f"'{source}' is no folder here")
    parts = read_index(folder, cache_dir, float32=emulates_bfloat16(device), trust=trusted)
    pipeline = build_pipeline(parts, device, Component.create)
    text_encoder = pipeline.generator.text_encoder
    language_model = to_device(resolve_language_model(parts["language_model"].create(), text_encoder), device)
    budget = Budget(text_encoder.count_tokens, text_encoder.max_length)
    captioner = parts["captioner"]
    if scenario and captioner.build is MetadataCaptioner:
        captioner = replace(captioner, arguments={"template": scenario.caption})
    templates = scenario or parts["scenario"].create()
    return {
        "extractor": PreferenceExtractor(
            language_model, templates, NoCache(), str(folder), budget, text_encoder=text_encoder
        ),
        "captioner": captioner.create(),
        "decoding": parts["decoding"].create(),
        "inputs": parts["inputs"].create(),
        "encoder": load_frozen(parts[EXPORTED_ENCODER], folder / EXPORTED_ENCODER),
        "pipeline": pipeline,
        "alpha_rule": parts["balance"]["alpha_rule"].create(),
        "source": None if scenario else folder,
    }
