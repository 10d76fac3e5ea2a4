"""A trained pipeline as a folder: what was trained, and where the frozen rest comes from.

``model_index.json`` holds the class and the arguments of every part, see `pmg.api.components`. Folders that
differ between machines are named ``<here>`` (the pipeline's own), ``<assets_dir>`` (the embedded models) and
``<cache_dir>``. A folder from anybody can be loaded: it chooses among pmg's own classes. A plug-in's are built only
for a caller who trusts that plug-in by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pmg.api.components import CLASS, ComponentReader
from pmg.api.weight_locations import Locations, check_folder
from pmg.configuration.ranges import Repeats, Scale
from pmg.configuration.trees import replace_values
from pmg.domain import PmgError
from pmg.generation.alpha import AlphaRule
from pmg.generation.condition_weighting import Weighting
from pmg.generation.guidance import Scales
from pmg.generation.requests import Method
from pmg.generation.selection import Combination, Weights
from pmg.installation import find_assets
from pmg.models.loading.weight_files import refuse_large
from pmg.preferences.captioning import PictureDescriber
from pmg.runs.run_folder import EXPORTED_ENCODER

INDEX, LARGEST_INDEX = "model_index.json", 2**18  # bytes
PIPELINE = "PersonalizedPipeline"
METHODS, PREFERENCE = "methods", "preference"
"""Names in an index: `Method` by name, the first of which is the default; and preference sources by name."""
PARTS = ("language_model", "scenario", "captioner", "decoding", "inputs", "text_encoder", "generator", "scorer")


@dataclass(frozen=True)
class Balance:
    """The section ``balance`` of an index, see `Pipeline`; `alpha` is the value that the rule was made of."""

    weights: Weights
    weighting: Weighting
    combination: Combination
    alpha_rule: AlphaRule
    alpha: float | None = None
    captioner: PictureDescriber | None = None


@dataclass(frozen=True)
class Sampling:
    """The section ``sampling`` of an index, see `Pipeline`."""

    scales: Scales
    steps: Repeats | None
    bfloat16: bool = False
    batch_size: int | None = None  # of the commands
    guidance: Scale | None = None  # what `scales` were made of


SECTIONS = {"balance": Balance, "sampling": Sampling}


def read_index(folder: Path, cache_dir: str, float32: bool = False, trust: Sequence[str] = ()) -> dict[str, Any]:
    """Reads the parts of a pipeline; nothing is built, loaded or written.

    Returns a `Component` for each of `PARTS`, for each of `SECTIONS` a mapping of components and values, the class of
    the trained encoder under `EXPORTED_ENCODER`, and methods and components of preference sources by name.
    The folder may come from anybody: PmgError if it holds no such pipeline, or one that would build or read something
    foreign. `float32`: to compute without bfloat16, on a processor that only emulates it. `trust`: plug-ins whose
    classes the index may name.
    """
    path = folder / INDEX
    if not path.is_file():
        raise PmgError(f"{folder} holds no pipeline (no {INDEX}); write one: pmg-export train_run=RUN")
    check_folder(folder)
    refuse_large(path, LARGEST_INDEX)
    try:
        index = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise PmgError(f"{path} is damaged ({str(error)[:160]})") from None
    kind = index.get(CLASS) if isinstance(index, dict) else "list or a single value"
    if kind != PIPELINE:
        raise PmgError(f"{path} describes a {kind}, no {PIPELINE}")
    nodes = {name: node for name, node in index.items() if name not in (CLASS, "_pmg_version")}
    try:
        reader = ComponentReader(Locations(folder, Path(find_assets()), Path(cache_dir)), tuple(trust))
        return read_nodes(in_float32(nodes) if float32 else nodes, reader)
    except PmgError as error:
        raise PmgError(f"{path}: {error}") from None


def read_nodes(nodes: Mapping[str, Any], reader: ComponentReader) -> dict[str, Any]:
    """Checks the nodes of an index; returns what `read_index` returns."""
    expected = (*PARTS, EXPORTED_ENCODER, *SECTIONS, METHODS, PREFERENCE)
    wrong = [f"{name} is missing" for name in expected if name not in nodes]
    wrong += [f"{str(name)[:80]!r} is no part of a pipeline" for name in nodes if name not in expected]
    if wrong:
        raise PmgError(wrong[0])
    parts: dict[str, Any] = {name: reader.read_component(name, name, nodes[name]) for name in PARTS}
    parts[EXPORTED_ENCODER] = reader.read_class(EXPORTED_ENCODER, nodes[EXPORTED_ENCODER])
    parts |= {name: reader.read_arguments(section, name, nodes[name]) for name, section in SECTIONS.items()}
    sources = {
        name: reader.read_component("preference_source", f"{PREFERENCE}.{name}", node)
        for name, node in _named(nodes, PREFERENCE).items()
    }
    methods = {
        name: Method(**reader.read_arguments(Method, f"{METHODS}.{name}", node))
        for name, node in _named(nodes, METHODS).items()
    }
    if not methods:
        raise PmgError(f"{METHODS} is empty: a pipeline has at least one method")
    return parts | {PREFERENCE: sources, METHODS: methods}


def _named(nodes: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    """Returns a section of an index with entries by name; PmgError if it is none."""
    if not isinstance(nodes[section], Mapping):
        raise PmgError(f"{section} is no mapping: {str(nodes[section])[:80]!r}")
    return nodes[section]


def in_float32(nodes: Mapping[str, Any]) -> dict[str, Any]:
    """The nodes of an index without bfloat16, for a processor that only emulates it: types of all their models."""
    plain = {("dtype", "bfloat16"): "float32", ("bfloat16", True): False}
    return dict(replace_values(nodes, lambda name, value: plain.get((name, value), value)))
