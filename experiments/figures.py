"""What the figures of studies show; how they are drawn is in `pmg.reporting.figures`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pmg.evaluation.image_evaluation import SELECTION_SCORES
from pmg.evaluation.metrics.lpips import LpipsToTruth
from pmg.looks.metrics import LookAccuracy
from pmg.reporting.figures import draw_plane, find_plane, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = [*LookAccuracy.outputs, *LpipsToTruth.outputs]


def draw_front(variants: Mapping[str, Mapping]) -> Figure:
    """Draws accuracy against preference of every variant, by the scores that select and by the classifiers."""
    figure, axes = panels(2, 4.5, 4.0)
    by_aspect = {metric.aspect: metric for metric in SELECTION_SCORES}
    planes = {
        "the scores that select": (by_aspect["accuracy"], by_aspect["preference"]),
        "classifiers that select nothing": find_plane(SHOWN, variants.values()),
    }
    arranged = by_last_factor(variants)
    proposed = next(name for arms in arranged.values() for name in arms if name.startswith("pmg"))
    for axis, (title, plane) in zip(axes, planes.items(), strict=True):
        draw_plane(axis, arranged, plane, proposed)
        axis.set_title(title)
    axes[0].legend(fontsize=7)
    return figure


def by_last_factor(variants: Mapping[str, Mapping]) -> dict[str, dict[str, Mapping]]:
    """Returns the arms by the value of the last factor alone; those of other factors follow the methods' names."""
    found: dict[str, dict[str, Mapping]] = {}
    for label, arms in variants.items():
        *others, last = (part.split(" = ")[-1] for part in label.split(", "))
        for method, values in arms.items():
            found.setdefault(last, {})[", ".join([method, *others])] = values
    return found
