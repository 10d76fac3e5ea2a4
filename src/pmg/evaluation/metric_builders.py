"""Builds metrics from the config group ``metrics``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmg.configuration.instantiate import built_class, instantiate, to_plain
from pmg.configuration.trees import targets
from pmg.domain import PmgError

if TYPE_CHECKING:
    from pmg.data.dataset import Dataset
    from pmg.evaluation.metric_interface import Metrics

PLACED = "features"  # the argument whose model runs on the device of the config


def check_independent(metrics: Any, scorer: Any, where: str = "scorer") -> None:
    """Refuses, by PmgError, a metric by the model that selects images: a score that was searched for is no evidence.

    `where` is what the scorer is called in the error.
    """
    selecting = _source(to_plain(scorer))
    for name, node in _nodes(metrics).items():
        for argument, model in _models(node).items():
            if selecting and _source(model) == selecting:
                key = f"metrics.{name}.{argument}"
                raise PmgError(
                    f"{key} and {where} are both {selecting}: a model that selects images can't evaluate them. Name "
                    f"another model by {key}.source, or leave the metric out by metrics.{name}=null"
                )


def build_metrics(metrics: Any, device: str = "cpu", data: Dataset | None = None) -> Metrics:
    """Builds metrics of config nodes by name; equal models are loaded once.

    A metric with an argument `data` gets the data set that is evaluated. Models that are given as `PLACED` run on
    `device`, all others on the CPU. PmgError if a model can't be loaded, or two outputs have one name.
    """
    from pmg.evaluation.metric_interface import Metrics

    loaded: dict[str, Any] = {}
    built = []
    for name, node in _nodes(metrics).items():
        arguments = {argument: _load(f"metrics.{name}.{argument}", model, device, loaded)
                     for argument, model in _models(node).items()}  # fmt: skip
        if "data" in signature(built_class(node)).parameters:
            arguments["data"] = data
        built.append(_build(f"metrics.{name}", node, arguments))
    return Metrics.of(built)


def _build(key: str, node: Any, arguments: Mapping[str, Any]) -> Any:
    try:
        return instantiate(node, **arguments)
    except PmgError as error:
        raise PmgError(f"{key}: {error}") from error


def _load(key: str, node: Mapping[str, Any], device: str, loaded: dict[str, Any]) -> Any:
    from pmg.models.loading.device import to_device

    name = json.dumps([node, key.endswith(f".{PLACED}")], sort_keys=True)
    if name not in loaded:
        model = _build(key, node, {})
        loaded[name] = to_device(model, device) if key.endswith(f".{PLACED}") else model
    return loaded[name]


def _nodes(metrics: Any) -> dict[str, Mapping[str, Any]]:
    """Returns the nodes of metrics by name, in built-in types; null ones are left out."""
    return {name: to_plain(node) for name, node in (to_plain(metrics) or {}).items() if node}


def _models(node: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns the arguments of a metric's node that are models of their own."""
    return {argument: model for argument, model in targets(node) if argument in node}


def _source(node: Any) -> str | None:
    """Returns where a node's weights come from; a folder by its true path, since one has many names."""
    if not (source := node.get("source") if isinstance(node, Mapping) else None):
        return None
    from pmg.models.loading.weight_sources import resolve_source  # which loads torch

    path = Path(resolve_source(source))
    return str(path.resolve()) if path.exists() else str(source)
