"""What the figures of studies show; how they are drawn is in `pmg.reporting.figures`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pmg.evaluation.metrics.looks import LookAccuracy
from pmg.evaluation.metrics.lpips import LpipsToTruth
from pmg.evaluation.selection_scores import SELECTION_SCORES
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
    for axis, (title, plane) in zip(axes, planes.items(), strict=True):
        draw_plane(axis, {label.removeprefix("alpha = "): arms for label, arms in variants.items()}, plane, "pmg")
        axis.set_title(title)
    axes[0].legend()
    return figure
