"""Selects the figures that a set of runs has data for, and computes scores as functions of alpha."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from pmg.configuration.identity import decides_result
from pmg.evaluation.metric_interface import MetricInfo
from pmg.evaluation.references import NEAREST
from pmg.evaluation.statistics import user_means
from pmg.generation.selection import WeightedScores, pick
from pmg.records.storage import Record
from pmg.reporting.artifacts import Artifacts
from pmg.reporting.figures import ALPHAS, Point, draw_curves, draw_effect, draw_methods, draw_trade, find_plane, png
from pmg.reporting.runs import RunFolder, progress
from pmg.reporting.summary import Group, MethodValues, drop_repeats, effects, scalar_metric, trained_metrics
from pmg.reporting.variants import Factors

PANELS = 6  # of a figure at most
LEARNT = ("train/", "val/")  # metrics whose curves show the learning; not memory or rates
EFFECTS = 8  # figures of factors at most
Drawn = tuple[str, str, str, Figure]  # name, title, text, figure


def draw_pictures(
    runs: Sequence[RunFolder], factors: Factors, artifacts: Artifacts, groups: Sequence[Group]
) -> list[Picture]:
    """Returns all figures that these runs have data for."""
    drawn = (
        *_effects(runs, factors, artifacts, groups),
        *_trade(runs, factors, artifacts, groups),
        *_curves(runs, factors, artifacts),
    )
    return [
        Picture(re.sub(r"[^\w.-]", "_", name), title, text, png(figure))
        for name, title, text, figure in progress(list(drawn), "Drawing")
    ]


def _effects(
    runs: Sequence[RunFolder], factors: Factors, artifacts: Artifacts, groups: Sequence[Group]
) -> Iterator[Drawn]:
    for place, key in enumerate(factors.chosen[:EFFECTS]):
        found = effects(place, groups, runs, artifacts)
        judged = {value: _made(methods, artifacts) for value, (methods, _) in found.items() if methods}
        taught = decides_result("train", key)  # others, as alpha, change no training
        trained = {value: {"": scalars} for value, (_, scalars) in found.items() if scalars and taught}
        over = ", over all other factors" if len(factors.chosen) > 1 else ""
        for kind, variants, known in (
            ("judged", judged, artifacts.metrics), ("training", trained, trained_metrics(groups))
        ):  # fmt: skip
            if metrics := _panels(list(variants.values()), known, least=2):
                variants = {value: methods for value, methods in variants.items() if _panels([methods], metrics)}
                text = f"Means with 95 % intervals for {len(variants)} values of {key}{over}."
                figure = draw_effect(variants, metrics, key)
                yield f"effect_{key}_{kind}", f"Main effect of {key}, {kind}", text, figure
    whole = groups[0].methods if len(groups) == 1 else {}
    if metrics := _panels([whole], artifacts.metrics):
        figure = draw_methods(whole, metrics, artifacts.comparison.proposed)
        yield "methods", "Methods", "Means over users with 95 % intervals.", figure


def _made(methods: MethodValues, artifacts: Artifacts) -> MethodValues:
    """Returns the methods that generate images: the others are far from them, and would compress every scale."""
    others = (NEAREST, *artifacts.comparison.references)
    return {method: values for method, values in methods.items() if method not in others}


def _panels(variants: Sequence[MethodValues], known: Sequence[MetricInfo], least: int = 1) -> list[MetricInfo]:
    """Returns the metrics that at least so many variants have, those that selected images left out."""
    found = Counter(name for methods in variants for name in {name for values in methods.values() for name in values})
    return [metric for metric in known if found[metric.name] >= least and not metric.selects][:PANELS]


def _trade(
    runs: Sequence[RunFolder], factors: Factors, artifacts: Artifacts, groups: Sequence[Group]
) -> Iterator[Drawn]:
    curves: dict[str, dict[str, list]] = {}
    rest = [place for place, key in enumerate(factors.chosen) if not key.endswith("alpha")]  # it makes no candidate
    part = Factors((), tuple(factors.chosen[place] for place in rest), {})
    members: dict[str, list[int]] = {}
    for group in groups:
        members.setdefault(part.label([group.values[place] for place in rest]), []).extend(group.runs)
    for label, numbers in members.items():
        as_in_paper = [n for n in numbers if runs[n].config.get("balance.combination.logarithms")]
        records = [record for n in as_in_paper if n in artifacts.records for record in artifacts.records[n][1]]
        for method, points in alpha_curves(records).items():
            curves.setdefault(method, {})[label] = points
    variants = {factors.label(group.values): _made(group.methods, artifacts) for group in groups if group.methods}
    plane = find_plane(artifacts.metrics, variants.values())
    if figure := draw_trade(curves, variants, plane, (part.name, artifacts.comparison.proposed)):
        text = (
            "Accuracy against preference, higher is better for both: means over users of the candidates that each "
            "alpha from 0 to 1 picks, by the scores that select; and means by the judge, where there is one for both."
        )
        yield "alpha", "Alpha: accuracy against preference", text, figure


def _curves(runs: Sequence[RunFolder], factors: Factors, artifacts: Artifacts) -> Iterator[Drawn]:
    curves = [(factors.label(factors.values(runs[number])), frame) for number, frame in artifacts.curves.items()]
    names = dict.fromkeys(name for _, frame in curves for name in frame.columns if name.startswith(LEARNT))
    columns = {name: [frame[name].dropna().tolist() for _, frame in curves if name in frame] for name in names}
    held_out_first = sorted(drop_repeats(columns), key=lambda name: not name.startswith("val/"))
    if metrics := [scalar_metric(name) for name in held_out_first]:
        text = f"{len(curves)} trainings by step; those that differ in the seed alone share a colour."
        yield "curves", "Learning curves", text, draw_curves(curves, metrics[:PANELS], factors.name)


@dataclass(frozen=True)
class Picture:
    """A figure of the page."""

    name: str  # of its file, without ending
    title: str  # of its section
    text: str  # what it shows, also for those who don't see it
    content: bytes  # PNG

    @property
    def size(self) -> tuple[int, int]:
        """Returns width and height in pixels from the header of a PNG."""
        return int.from_bytes(self.content[16:20], "big"), int.from_bytes(self.content[20:24], "big")


def alpha_curves(records: Sequence[Record]) -> dict[str, list[Point]]:
    """Returns for each method the mean scores over users of the candidates selected with each of `ALPHAS`.

    Candidates don't depend on alpha, which only selects, as in the paper. Mismatched preferences, methods with one
    candidate and methods without a preference score are left out.
    """
    own = [record for record in records if record.control == "own" and len(record.candidates) > 1]
    scored = [record for record in own if all(each.preference is not None for each in record.candidates)]
    methods = dict.fromkeys(record.method for record in scored)
    return {name: _curve([record for record in scored if record.method == name]) for name in methods}


def _curve(records: Sequence[Record]) -> list[Point]:
    longest = max(len(record.candidates) for record in records)
    # runs with fewer weights are padded with their first candidate, which doesn't change the selection
    tried = [(*each.candidates, *[each.candidates[0]] * (longest - len(each.candidates))) for each in records]
    d_p, d_t = (
        torch.tensor([[getattr(candidate, name) for candidate in row] for row in tried])
        for name in ("preference", "accuracy")
    )
    users = np.array([record.user for record in records])
    picked = [pick(WeightedScores()(d_p, d_t, alpha))[:, None] for alpha in ALPHAS]

    def mean(scores: Tensor, place: Tensor) -> float:
        """Returns the mean over users of the scores `(N, K)` of the picked candidates `(N, 1)`."""
        return float(user_means(scores.gather(1, place)[:, 0].numpy(), users).mean())

    return [(mean(d_t, place), mean(d_p, place)) for place in picked]
