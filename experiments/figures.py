"""What the figures of studies show; how they are drawn is in `pmg.reporting.figures`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pmg.evaluation.tables import METRICS
from pmg.reporting.figures import JUDGES, draw_plane, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = [metric for metric in METRICS if metric.name in ("style_accuracy", "concept_accuracy", "lpips_truth")]


def draw_front(variants: Mapping[str, Mapping]) -> Figure:
    """Accuracy against preference of every variant, by the scores that select and by the judge."""
    figure, axes = panels(2, 4.5, 4.0)
    pairs = {
        "the scores that select": ("selection_accuracy", "selection_preference"),
        "the judge, who does not": JUDGES[0],
    }
    for axis, (title, pair) in zip(axes, pairs.items(), strict=True):
        draw_plane(axis, {label.removeprefix("alpha = "): arms for label, arms in variants.items()}, pair)
        axis.set_title(title)
    axes[0].legend()
    return figure
