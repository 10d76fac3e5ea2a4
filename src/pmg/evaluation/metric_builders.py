"""Who reports, from the config: models that measure single images, and metrics of whole sets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmg.configuration.instantiate import instantiate, instantiate_by_name, nearest, to_plain
from pmg.domain import PmgError

if TYPE_CHECKING:
    from pmg.evaluation.distribution_metrics import SetMetric
    from pmg.evaluation.similarity import Measure
    from pmg.models.vision.features import ImageFeatures

COLUMNS = ("dino", "clip")  # features of these names measure single images


def check_independent(judge: Any, scorer: Any, where: str = "scorer") -> None:
    """Refuses a judge that is the model which selects: a score that was searched for says nothing.

    Args:
        judge: of the config.
        scorer: of the config that images were, or will be, selected by.
        where: what the scorer is called in the error.

    Raises:
        PmgError: one of the judge's features has the scorer's source.
    """
    selecting = _source(to_plain(scorer))
    for name, node in _part(judge, "features").items():
        if selecting and _source(node) == selecting:
            raise PmgError(
                f"judge.features.{name} and {where} are both {selecting}, and what selects never reports: name "
                f"another model by judge.features.{name}.source, or judge.features.{name}=null"
            )


def build_sets(judge: Any, count: int) -> dict[str, SetMetric]:
    """Metrics of sets of `count` images, those alone that are asked for.

    Raises:
        PmgError: there are too few images, or a metric names features that there are not.
    """
    known = _part(judge, "features")
    sets = {name: metric for name, metric in instantiate_by_name(judge.get("sets")).items() if metric.features}
    for name, metric in sets.items():
        for feature in metric.features:
            if feature not in known:
                listed = ", ".join(known) or "none"
                raise PmgError(
                    f"judge.sets.{name}.features: no '{feature}' in judge.features{nearest(feature, known)} "
                    f"(known: {listed})"
                )
        metric.check(count)
    return sets


def build_features(judge: Any, sets: Mapping[str, SetMetric], device: str) -> dict[str, ImageFeatures]:
    """Frozen encoders by name: those that measure single images, and those that `sets` ask for.

    Raises:
        PmgError: a model can't be loaded.
    """
    from pmg.models.loading.device import to_device

    used = {*COLUMNS, *(feature for metric in sets.values() for feature in metric.features)}
    found = {}
    for name, node in _part(judge, "features").items():
        if name in used:
            try:
                found[name] = to_device(instantiate(node), device)
            except PmgError as error:
                raise PmgError(f"judge.features.{name}: {error}") from error
    return found


def build_measures(judge: Any, features: Mapping[str, ImageFeatures]) -> list[Measure]:
    """Measures of single images, beside LPIPS and SSIM.

    Raises:
        PmgError: `clip` reads no texts.
    """
    from pmg.evaluation.similarity import ClipSimilarity, DinoSimilarity, VggDistance

    measures: list[Measure] = []
    if judge.get("perceptual_vgg"):
        measures.append(VggDistance(instantiate(judge.perceptual_vgg)))
    if "dino" in features:
        measures.append(DinoSimilarity(features["dino"]))
    if "clip" in features:
        if not hasattr(features["clip"], "encode_texts"):
            raise PmgError("judge.features.clip reads no texts: build it by pmg.models.vision.features.ClipFeatures")
        measures.append(ClipSimilarity(features["clip"]))
    return measures


def _part(judge: Any, name: str) -> dict[str, Any]:
    """A part of the judge's config in built-in types; null nodes are left out."""
    nodes = (to_plain(judge) or {}).get(name) or {}
    return {key: node for key, node in nodes.items() if node}


def _source(node: Any) -> str | None:
    """Where a node's weights come from; a folder by its true path, since one has many names."""
    source = node.get("source") if isinstance(node, Mapping) else None
    if not source:
        return None
    from pmg.models.loading.weight_sources import resolve_source  # which loads torch

    path = Path(resolve_source(source))
    return str(path.resolve()) if path.exists() else str(source)
