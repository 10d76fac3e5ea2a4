"""Figures of runs and studies: means with 95 % intervals, trade-offs, learning curves."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from pmg.cache import atomic_write_bytes
from pmg.evaluation.metric_interface import MetricInfo
from pmg.reporting.summary import MethodValues
from pmg.reporting.variants import numbers_of

DPI = 120
COLUMNS = 3  # panels side by side
NAMED = 12  # series in a legend, labels on an axis
LETTERS = 13  # of a legend in an inch
SPAN = 10  # largest to smallest value of an axis that is better read in logarithms

ALPHAS = tuple(number / 20 for number in range(21))
Point = tuple[float, float]  # accuracy d_t, preference d_p
Plane = tuple[MetricInfo, MetricInfo]  # a metric of accuracy, and one of preference


def draw_methods(methods: Mapping[str, Mapping], metrics: Sequence[MetricInfo], proposed: str = "") -> Figure:
    """Draws a point a method with its 95 % interval, metrics side by side; `proposed` has another colour."""
    figure, axes = panels(len(metrics), 4.0, 0.32 * len(methods) + 1.1)
    for axis, metric in zip(axes, metrics, strict=True):
        names = [name for name in methods if metric.name in methods[name]][::-1]
        for place, name in enumerate(names):
            colour, value = "C1" if name == proposed else "C0", methods[name][metric.name]
            axis.plot([value["low"], value["high"]], [place, place], color=colour, linewidth=2)
            axis.plot(value["mean"], place, "o", color=colour)
        axis.set_yticks(range(len(names)), names)
        axis.set_xlabel(_title(metric), fontsize=9)
        axis.grid(axis="x", alpha=0.3)
    return figure


def draw_effect(variants: Mapping[str, MethodValues], metrics: Sequence[MetricInfo], name: str = "") -> Figure:
    """Draws each method over the values of a factor, metrics side by side; only values that are numbers are joined.

    `variants` are means with their limits by value of the factor `name`; where all are numbers the axis is one of
    numbers, logarithmic where they span a decade.
    """
    figure, axes = panels(len(metrics), 4.4, 3.2)
    methods = list(dict.fromkeys(method for methods in variants.values() for method in methods))
    banded = numbers_of(variants) is not None
    for axis, metric in zip(axes, metrics, strict=True):
        places = _scale(axis, list(variants))
        for number, method in enumerate(methods):
            aside = 0 if banded else 0.05 * (number - (len(methods) - 1) / 2)
            points = [
                (place + aside, methods[method][metric.name])
                for place, methods in zip(places, variants.values(), strict=True)
                if metric.name in methods.get(method, ())
            ]
            if points:
                _line(axis, points, method, f"C{number % 10}", banded)
        axis.set_title(_title(metric), fontsize=10)
        axis.set_xlabel(name)
        axis.grid(alpha=0.3)
    if len(methods) > 1:
        _legend(figure, axes)
    return figure


def _line(axis: Any, points: Sequence[tuple[float, Mapping[str, float]]], label: str, colour: str, band: bool) -> None:
    """Draws means; between numbers they are joined, with their intervals as a band, else intervals are bars."""
    x, values = zip(*points, strict=True)
    axis.plot(x, [value["mean"] for value in values], "o-" if band else "o", label=label, color=colour)
    low, high = ([value[end] for value in values] for end in ("low", "high"))
    if band and len(x) > 1:
        axis.fill_between(x, low, high, alpha=0.15, color=colour)
    else:
        axis.vlines(x, low, high, color=colour, linewidth=2, alpha=0.6)


def _scale(axis: Any, labels: Sequence[str]) -> Sequence[float]:
    """Prepares the axis for the labels, and returns their places."""
    numbers = numbers_of(labels)
    if numbers is None:
        step = math.ceil(len(labels) / NAMED)
        shown = [label.replace(", ", ",\n") for label in labels[::step]]
        longest = max(len(line) for label in shown for line in label.splitlines())
        style = {"rotation": 25, "ha": "right"} if longest * len(shown) > 4 * LETTERS else {}
        axis.set_xticks(range(0, len(labels), step), shown, fontsize=8, **style)
        axis.margins(x=0.15 if len(labels) < 4 else 0.05)
        return range(len(labels))
    if min(numbers) > 0 and max(numbers) >= SPAN * min(numbers):
        axis.set_xscale("log")
    if len(numbers) <= NAMED // 2:
        axis.minorticks_off()
        axis.set_xticks(numbers, labels)
    return numbers


def find_plane(metrics: Sequence[MetricInfo], variants: Iterable[MethodValues]) -> Plane | None:
    """Returns the first metrics of accuracy and of preference that one method has both, and that selected no image."""
    measured = [set(values) for methods in variants for values in methods.values()]
    accuracy, preference = (
        [metric for metric in metrics if metric.aspect == aspect and not metric.selects]
        for aspect in ("accuracy", "preference")
    )
    pairs = product(accuracy, preference)
    return next((pair for pair in pairs if any({m.name for m in pair} <= names for names in measured)), None)


def draw_trade(
    curves: Mapping[str, Mapping[str, Sequence[Point]]], variants: Mapping[str, MethodValues], plane: Plane | None,
    names: tuple[str, str] = ("", ""),
) -> Figure | None:  # fmt: skip
    """Draws accuracy against preference: what each alpha would select, and means of independent metrics, if any.

    `curves` are points of `ALPHAS` by method and group, a panel a method; `variants` are means by group, in one last
    panel of the metrics `plane`, if any. `names` are of the factor that separates groups, and of the proposed method.
    """
    name, proposed = names
    if not curves and plane is None:
        return None
    figure, axes = panels(len(curves) + (plane is not None), 4.4, 3.9)
    shown = list(dict.fromkeys(group for groups in curves.values() for group in groups))
    for axis, (method, groups) in zip(axes, curves.items(), strict=False):
        for group, points in groups.items():
            colour = shade(shown.index(group), len(shown))
            axis.plot(*zip(*points, strict=True), ".-", color=colour, label=group, linewidth=1)
        for place in (0, len(ALPHAS) // 2, len(ALPHAS) - 1):
            axis.annotate(f"α = {ALPHAS[place]:g}", points[place], (5, 5), textcoords="offset points", fontsize=8)
        axis.margins(0.15)
        axis.locator_params(nbins=6)
        axis.set(xlabel="accuracy d_t †", ylabel="preference d_p †")
        axis.grid(alpha=0.3)
        axis.set_title(f"{method}: alpha by the scores that select", fontsize=10)
    if plane:
        draw_plane(axes[-1], variants, plane, proposed)
        axes[-1].set_title("means of metrics that select nothing", fontsize=10)
        axes[-1].legend(fontsize=7)
    if len(shown) > 1:
        _legend(figure, axes[: len(curves)], name)
    return figure


def draw_plane(axis: Any, variants: Mapping[str, MethodValues], plane: Plane, proposed: str = "") -> None:
    """Draws methods' means in a plane, joined where the variants are numbers; points of `proposed` are labelled."""
    across, up = (metric.name for metric in plane)
    found: dict[str, dict[str, Point]] = {}
    for label, methods in variants.items():
        for method, values in methods.items():
            if {across, up} <= set(values):
                found.setdefault(method, {})[label] = values[across]["mean"], values[up]["mean"]
    for method, points in found.items():
        style = "o-" if numbers_of(variants) else "o"
        axis.plot(*zip(*points.values(), strict=True), style, label=method, markersize=4)
        if method == proposed and 1 < len(points) <= NAMED and max(map(len, points)) <= NAMED:
            _name_points(axis, points)
    axis.set(xlabel=f"accuracy ({plane[0].title})", ylabel=f"preference ({plane[1].title})")
    axis.margins(0.12)
    axis.grid(alpha=0.3)


def _name_points(axis: Any, points: Mapping[str, Point]) -> None:
    """Writes labels beside their points, but for those that would cover another."""
    axis.get_figure().draw_without_rendering()  # until then the axis has no scale
    written: list[Any] = []
    for label, point in points.items():
        text = axis.annotate(label.replace(", ", ",\n"), point, (4, 4), textcoords="offset points", fontsize=7)
        box = text.get_window_extent()
        if any(box.overlaps(other) for other in written):
            text.remove()
        else:
            written.append(box)


def draw_curves(curves: Sequence[tuple[str, pd.DataFrame]], metrics: Sequence[MetricInfo], name: str = "") -> Figure:
    """Draws learning curves, by ``step``, a panel a metric; runs of one group have one colour."""
    figure, axes = panels(len(metrics), 4.4, 3.2)
    groups = list(dict.fromkeys(group for group, _ in curves))
    for axis, metric in zip(axes, metrics, strict=True):
        for group, frame in curves:
            part = frame.reindex(columns=["step", metric.name]).dropna()
            if len(part):
                style = {"color": shade(groups.index(group), len(groups)), "markersize": 3, "linewidth": 1.2}
                axis.plot(part["step"], part[metric.name], "o-" if len(part) <= 40 else "-", label=group, **style)
        axis.set_title(_title(metric), fontsize=10)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    if len(groups) > 1:
        _legend(figure, axes, name)
    return figure


def shade(number: int, count: int) -> Any:
    """Returns a colour: of a palette for a few series, of one scale for many."""
    return f"C{number}" if count <= 10 else colormaps["viridis"](number / (count - 1))


def _title(metric: MetricInfo) -> str:
    return f"{metric.title} ({'higher' if metric.higher_is_better else 'lower'} is better)"


def panels(count: int, width: float, height: float) -> tuple[Figure, list[Any]]:
    """Returns a figure of `count` panels and its axes, in rows of `COLUMNS` inches of the given size each."""
    columns = 2 if count == 4 else min(count, COLUMNS)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(max(width * columns, 5), height * rows + 0.4), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.remove()
    return figure, axes[:count]


def _legend(figure: Figure, axes: Sequence[Any], title: str = "") -> None:
    """Draws one legend below all panels; none where it would be larger than they are."""
    found = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    room = figure.get_figwidth() * LETTERS / (max(map(len, found)) + 6)
    if room >= 1 and len(found) <= NAMED:
        place, columns = "outside lower center", min(4, int(room))
        figure.legend(found.values(), found.keys(), title=title, loc=place, ncols=columns, fontsize=8)


def png(figure: Figure) -> bytes:
    """Returns the figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Writes the figure, whole or not at all."""
    atomic_write_bytes(path, png(figure))
