"""Figures of studies, drawn from their summaries: means with 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SHOWN = ("style_accuracy", "concept_accuracy", "lpips_truth")
TITLES = {
    "style_accuracy": "style accuracy (higher is better)",
    "concept_accuracy": "concept accuracy (higher is better)",
    "lpips_truth": "LPIPS to truth (lower is better)",
}


def draw_arms(arms: Mapping[str, Mapping], path: Path) -> None:
    """A point a method with its 95 % interval, metrics side by side."""
    figure, axes = plt.subplots(1, len(SHOWN), figsize=(4 * len(SHOWN), 0.4 * len(arms) + 1.2), sharey=True)
    for axis, metric in zip(axes, SHOWN, strict=True):
        names = [name for name in arms if metric in arms[name]][::-1]
        for place, name in enumerate(names):
            _point(axis, arms[name][metric], place, "C1" if name == "pmg" else "C0")
        axis.set_yticks(range(len(names)), names)
        axis.set_xlabel(TITLES[metric])
        axis.grid(axis="x", alpha=0.3)
    _save(figure, path)


def _point(axis: Any, value: Mapping[str, float], place: float, colour: str) -> None:
    axis.plot([value["low"], value["high"]], [place, place], color=colour, linewidth=2)
    axis.plot(value["mean"], place, "o", color=colour)


def draw_lines(variants: Mapping[str, Mapping], path: Path) -> None:
    """A line a method over the variants, metrics side by side."""
    figure, axes = plt.subplots(1, len(SHOWN), figsize=(4.5 * len(SHOWN), 3.6))
    labels = [label.replace("unseen = ", "unseen:\n").replace(", m", "\nm") for label in variants]
    for axis, metric in zip(axes, SHOWN, strict=True):
        for method in _methods(variants):
            values = [result["arms"][method][metric] for result in variants.values()]
            axis.plot([value["mean"] for value in values], "o-", label=method)
            axis.fill_between(range(len(values)), *([v[end] for v in values] for end in ("low", "high")), alpha=0.15)
        axis.set_xticks(range(len(labels)), labels, fontsize=8)
        axis.set_title(TITLES[metric], fontsize=10)
        axis.grid(alpha=0.3)
    axes[0].legend()
    _save(figure, path)


def draw_front(variants: Mapping[str, Mapping], path: Path) -> None:
    """Accuracy against preference of every variant, by the scores that select and by the judge."""
    pairs = {
        "the scores that select": ("selection_accuracy", "selection_preference"),
        "the judge, who does not": ("concept_accuracy", "style_accuracy"),
    }
    figure, axes = plt.subplots(1, 2, figsize=(9, 4))
    for axis, (title, (across, up)) in zip(axes, pairs.items(), strict=True):
        for method in _methods(variants):
            arms = [result["arms"][method] for result in variants.values()]
            axis.plot([a[across]["mean"] for a in arms], [a[up]["mean"] for a in arms], "o-", label=method)
        for label, result in variants.items():
            point = result["arms"]["pmg"]
            axis.annotate(label.removeprefix("alpha = "), (point[across]["mean"], point[up]["mean"]), fontsize=8)
        axis.set(title=title, xlabel=f"accuracy ({across})", ylabel=f"preference ({up})")
        axis.grid(alpha=0.3)
    axes[0].legend()
    _save(figure, path)


def _methods(variants: Mapping[str, Mapping]) -> list[str]:
    return list(next(iter(variants.values()))["arms"])


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
