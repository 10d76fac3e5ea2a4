"""Figures of runs and studies: means with 95 % intervals, trades, learning curves."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from pmg.cache import atomic_write_bytes
from pmg.evaluation.tables import MAIN, Metric
from pmg.reporting.summary import Arms
from pmg.reporting.trade import ALPHAS, Point

DPI = 120
COLUMNS = 3  # panels side by side
NAMED = 12  # series in a legend, labels on an axis
SPAN = 10  # largest to smallest value of an axis that is better read in logarithms
JUDGES = (("concept_accuracy", "style_accuracy"), ("clip_t_target", "clip_t_preference"))  # accuracy, preference


def draw_arms(arms: Mapping[str, Mapping], metrics: Sequence[Metric]) -> Figure:
    """A point a method with its 95 % interval, metrics side by side."""
    figure, axes = panels(len(metrics), 4.0, 0.32 * len(arms) + 1.1)
    for axis, metric in zip(axes, metrics, strict=True):
        names = [name for name in arms if metric.name in arms[name]][::-1]
        for place, name in enumerate(names):
            colour, value = "C1" if name == MAIN else "C0", arms[name][metric.name]
            axis.plot([value["low"], value["high"]], [place, place], color=colour, linewidth=2)
            axis.plot(value["mean"], place, "o", color=colour)
        axis.set_yticks(range(len(names)), names)
        axis.set_xlabel(_title(metric), fontsize=9)
        axis.grid(axis="x", alpha=0.3)
    return figure


def draw_effect(variants: Mapping[str, Arms], metrics: Sequence[Metric], name: str = "") -> Figure:
    """A line a method over the values of a factor, metrics side by side.

    Args:
        variants: means with their limits by value; where all are numbers the axis is one of numbers, logarithmic
            where they span a decade.
        metrics: one a panel.
        name: of the factor.
    """
    figure, axes = panels(len(metrics), 4.4, 3.2)
    methods = list(dict.fromkeys(method for arms in variants.values() for method in arms))
    for axis, metric in zip(axes, metrics, strict=True):
        places = _scale(axis, list(variants))
        for number, method in enumerate(methods):
            found = [
                (place, arms[method]) for place, arms in zip(places, variants.values(), strict=True) if method in arms
            ]
            points = [(place, values[metric.name]) for place, values in found if metric.name in values]
            if points:
                _line(axis, points, method, f"C{number % 10}")
        axis.set_title(_title(metric), fontsize=10)
        axis.set_xlabel(name)
        axis.grid(alpha=0.3)
    if len(methods) > 1:
        _legend(figure, axes[0])
    return figure


def _line(axis: Any, points: Sequence[tuple[float, Mapping[str, float]]], label: str, colour: str) -> None:
    x, values = zip(*points, strict=True)
    axis.plot(x, [value["mean"] for value in values], "o-", label=label, color=colour)
    low, high = ([value[end] for value in values] for end in ("low", "high"))
    if len(x) == 1:
        axis.vlines(x, low, high, color=colour, alpha=0.5)
    axis.fill_between(x, low, high, alpha=0.15, color=colour)


def _scale(axis: Any, labels: Sequence[str]) -> Sequence[float]:
    """Prepares the axis for the labels; returns where each of them stands."""
    try:
        numbers = [float(label) for label in labels]
    except ValueError:
        step = math.ceil(len(labels) / NAMED)
        long = sum(map(len, labels)) > 40
        style = {"rotation": 25, "ha": "right"} if long else {}
        axis.set_xticks(range(0, len(labels), step), [_wrap(label) for label in labels[::step]], fontsize=8, **style)
        axis.margins(x=0.15 if len(labels) < 4 else 0.05)
        return range(len(labels))
    if min(numbers) > 0 and max(numbers) >= SPAN * min(numbers):
        axis.set_xscale("log")
        axis.minorticks_off()
    if len(numbers) <= NAMED // 2:
        axis.set_xticks(numbers, labels)
    return numbers


def _wrap(label: str) -> str:
    return label.replace(", ", ",\n")


def draw_trade(
    curves: Mapping[str, Mapping[str, Sequence[Point]]], variants: Mapping[str, Arms], name: str = ""
) -> Figure | None:
    """Accuracy against preference: what each alpha would pick by the selecting scores, and what the judge says.

    Args:
        curves: points of `ALPHAS` by method and group; a panel a method.
        variants: judged means by group, in one last panel where a judge measured both.
        name: of what tells the groups apart.

    Returns:
        None where there is neither.
    """
    judge = next((pair for pair in JUDGES if any(_measured(arms, pair) for arms in variants.values())), None)
    if not curves and judge is None:
        return None
    figure, axes = panels(len(curves) + (judge is not None), 4.4, 3.9)
    for axis, (method, groups) in zip(axes, curves.items(), strict=False):
        _alpha_panel(axis, groups)
        axis.set_title(f"{method}: alpha by the scores that select", fontsize=10)
    if judge:
        draw_plane(axes[-1], variants, judge)
        axes[-1].set_title("means by the judge, who selects nothing", fontsize=10)
        axes[-1].legend(fontsize=7)
    names = {group for groups in curves.values() for group in groups}
    if 1 < len(names) <= NAMED:
        _legend(figure, axes[0], name)
    return figure


def _alpha_panel(axis: Any, groups: Mapping[str, Sequence[Point]]) -> None:
    for number, (group, points) in enumerate(groups.items()):
        accuracy, preference = zip(*points, strict=True)
        axis.plot(accuracy, preference, ".-", color=shade(number, len(groups)), label=group, linewidth=1)
    for place in (0, len(ALPHAS) // 2, len(ALPHAS) - 1):
        axis.annotate(f"α = {ALPHAS[place]:g}", points[place], (5, 5), textcoords="offset points", fontsize=8)
    axis.margins(0.15)
    axis.locator_params(nbins=6)
    axis.set_xlabel("accuracy d_t †")
    axis.set_ylabel("preference d_p †")
    axis.grid(alpha=0.3)


def draw_plane(axis: Any, variants: Mapping[str, Arms], pair: tuple[str, str]) -> None:
    """A method's means in the plane of accuracy and preference, variants joined in their order and named."""
    across, up = pair
    methods = dict.fromkeys(m for arms in variants.values() for m in arms if _measured({m: arms[m]}, pair))
    for method in methods:
        found = {label: arms[method] for label, arms in variants.items() if method in arms}
        points = {label: (values[across]["mean"], values[up]["mean"]) for label, values in found.items()}
        axis.plot(
            *zip(*points.values(), strict=True), "o-" if len(variants) <= NAMED else "o", label=method, markersize=4
        )
        if method == MAIN and 1 < len(points) <= NAMED:
            _name_points(axis, points)
    axis.set_xlabel(f"accuracy ({across})")
    axis.set_ylabel(f"preference ({up})")
    axis.margins(0.12)
    axis.grid(alpha=0.3)


def _name_points(axis: Any, points: Mapping[str, Point]) -> None:
    """Writes labels beside their points, but for those that would cover another."""
    figure = axis.get_figure()
    figure.canvas.draw()  # until then the axis doesn't know its scale
    written: list[Any] = []
    for label, point in points.items():
        text = axis.annotate(label.replace(", ", ",\n"), point, (4, 4), textcoords="offset points", fontsize=7)
        box = text.get_window_extent()
        if any(box.overlaps(other) for other in written):
            text.remove()
        else:
            written.append(box)


def _measured(arms: Arms, pair: tuple[str, str]) -> bool:
    return any(set(pair) <= set(values) for values in arms.values())


def draw_curves(curves: Sequence[tuple[str, pd.DataFrame]], metrics: Sequence[Metric], name: str = "") -> Figure:
    """Learning curves, a panel a metric.

    Args:
        curves: group and metrics by ``step`` of each run; runs of one group have one colour.
        metrics: one a panel.
        name: of what tells the groups apart.
    """
    figure, axes = panels(len(metrics), 4.4, 3.2)
    groups = list(dict.fromkeys(group for group, _ in curves))
    for axis, metric in zip(axes, metrics, strict=True):
        named: set[str] = set()
        for group, frame in curves:
            part = frame[["step", metric.name]].dropna() if metric.name in frame else ()
            if len(part):
                style = "o-" if len(part) <= 40 else "-"
                label = None if group in named else group
                colour = shade(groups.index(group), len(groups))
                axis.plot(
                    part["step"], part[metric.name], style, label=label, color=colour, markersize=3, linewidth=1.2
                )
                named.add(group)
        axis.set_title(_title(metric), fontsize=10)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    if 1 < len(groups) <= NAMED:
        _legend(figure, axes[0], name)
    return figure


def shade(number: int, count: int) -> Any:
    """Colours of their own for a few series, one scale for many."""
    return f"C{number}" if count <= 10 else colormaps["viridis"](number / (count - 1))


def _title(metric: Metric) -> str:
    return f"{metric.title} ({'higher' if metric.higher else 'lower'} is better)"


def panels(count: int, width: float, height: float) -> tuple[Figure, list[Any]]:
    """A figure of `count` panels, in rows of `COLUMNS` inches of the given size each."""
    columns = 2 if count == 4 else min(count, COLUMNS)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(max(width * columns, 5), height * rows + 0.4), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.remove()
    return figure, axes[:count]


def _legend(figure: Figure, axis: Any, title: str = "") -> None:
    """Below all panels, where it hides nothing."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, title=title, loc="outside lower center", ncols=min(len(labels), 4), fontsize=8)


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Writes the figure, whole or not at all."""
    atomic_write_bytes(path, png(figure))
