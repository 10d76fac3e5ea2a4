from __future__ import annotations

import io

import pandas as pd
import pytest
from PIL import Image

from pmg.evaluation.metric_interface import MetricInfo
from pmg.reporting.figures import ALPHAS, draw_curves, draw_effect, draw_methods, draw_trade, find_plane, png
from pmg.reporting.summary import scalar_metric
from pmg.reporting.variants import numbers_of

JUDGED = [
    MetricInfo("style_accuracy", "style accuracy", range=(0.0, 1.0), aspect="preference"),
    MetricInfo("concept_accuracy", "concept accuracy", range=(0.0, 1.0), aspect="accuracy"),
]
CURVE = [(0.5 + alpha / 10, 0.5 - alpha / 10) for alpha in ALPHAS]


def methods(mean):
    value = {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "n": 3}
    return {method: {metric.name: value for metric in JUDGED} for method in ("none", "pmg_paper")}


@pytest.mark.parametrize(
    ("values", "scale", "bands"),
    [
        (("1", "4", "12"), "log", 2),
        (("0.1", "0.5"), "linear", 2),
        (("0", "100"), "linear", 2),
        (("front", "late"), "linear", 0),
    ],
)
def test_axis_of_an_effect_follows_the_values(values, scale, bands):
    figure = draw_effect({value: methods(0.1 * n) for n, value in enumerate(values)}, JUDGED, "key")
    axis = figure.axes[0]
    assert axis.get_xscale() == scale
    assert [label.get_text() for label in axis.get_xticklabels()] == list(values)
    filled = [c for c in axis.collections if type(c).__name__ in ("PolyCollection", "FillBetweenPolyCollection")]
    assert len(filled) == bands
    numbers = numbers_of(values)
    assert (axis.lines[0].get_linestyle() == "-") == (numbers is not None)  # categories have no order
    drawn = list(axis.lines[0].get_xdata())
    assert drawn == (numbers or pytest.approx([0, 1], abs=0.1))


def test_many_groups_have_no_legend_and_few_have_one():
    for count, legends in ((1, 0), (3, 1), (40, 0)):
        curves = [(f"group {n}", pd.DataFrame({"step": [1, 2], "val/x": [n, 0.0]})) for n in range(count)]
        assert len(draw_curves(curves, [scalar_metric("val/x")]).legends) == legends


def test_trade_has_a_panel_a_method_and_one_of_the_judge():
    variants = {"0": methods(0.1), "1": methods(0.5)}
    selecting = [MetricInfo("x", "x", aspect="accuracy", selects=True)]
    plane = find_plane([*selecting, *JUDGED], variants.values())
    assert find_plane(JUDGED, [{"pmg_paper": {}}]) is None
    assert draw_trade({}, {"a": {"pmg_paper": {}}}, None) is None
    figure = draw_trade({"pmg_paper": {"a": CURVE, "b": CURVE}, "soft": {"b": CURVE}}, variants, plane)
    assert len(figure.axes) == 3
    same = [figure.axes[0].lines[1].get_color(), figure.axes[1].lines[0].get_color()]
    assert same[0] == same[1]  # a group has one colour in all panels
    assert [text.get_text() for text in figure.axes[0].texts] == ["α = 0", "α = 0.5", "α = 1"]
    assert figure.axes[2].get_xlabel() == "accuracy (concept accuracy)"


def test_labels_stay_inside_the_picture():
    figure = draw_methods(methods(0.3), JUDGED)
    with Image.open(io.BytesIO(png(figure))) as picture:
        assert picture.size[0] > 500
    for axis in figure.axes:
        box = axis.get_tightbbox()
        assert figure.bbox.x0 - 1 <= box.x0
        assert box.x1 <= figure.bbox.x1 + 1
