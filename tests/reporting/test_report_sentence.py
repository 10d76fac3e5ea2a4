"""The first sentence of a report, of rows whose answer is known."""

from __future__ import annotations

import pandas as pd
import pytest

from pmg.evaluation.comparison import Comparison
from pmg.evaluation.metric_interface import MetricInfo
from pmg.reporting.artifacts import Artifacts
from pmg.reporting.report import answer

STYLE = MetricInfo("style", "style accuracy", aspect="preference")
DISTANCE = MetricInfo("distance", "LPIPS", higher_is_better=False)


def artifacts(gain, *infos, controls=("own", "mismatched")):
    rows = [
        {"example": f"u{user}-{number}", "user": f"u{user}", "method": method, "control": control, "seed": 0,
         "style": 0.3 + gain * (control == "own") + 0.01 * (user % 3), "distance": 0.5 - gain * (control == "own")}
        for user in range(12) for number in range(2) for method in ("none", "pmg_paper") for control in controls
    ]  # fmt: skip
    return Artifacts(
        rows={0: pd.DataFrame(rows)}, infos={i.name: i for i in infos}, comparison=Comparison(proposed="pmg_paper")
    )


@pytest.mark.parametrize(("gain", "verdict"), [(0.2, "better than"), (-0.2, "worse than"), (0, "not clearly better")])
def test_the_first_metric_of_the_preference_answers(gain, verdict):
    said = answer(artifacts(gain, DISTANCE, STYLE))
    assert f"fit this user {verdict}" in said
    assert f"style accuracy {0.31 + gain:.3f} and 0.310, a difference of {gain:+.3f}" in said
    assert said.endswith("(12 users, 48 pictures).")


def test_a_distance_is_better_when_it_is_smaller():
    assert "fit this user better than" in answer(artifacts(0.1, DISTANCE))


def test_one_user_is_too_few_for_a_verdict():
    found = artifacts(0.2, STYLE)
    found.rows[0] = found.rows[0][found.rows[0]["user"] == "u1"]
    said = answer(found)
    assert "fit this user not clearly better than" in said
    assert "a difference of +0.200, p = 1.000 (1 users, 4 pictures)." in said


def test_a_metric_that_no_pair_has_leaves_the_answer_to_the_next():
    found = artifacts(0.1, STYLE, MetricInfo("distance", "LPIPS", higher_is_better=False, aspect="preference"))
    found.rows[0]["style"] = float("nan")
    assert "LPIPS 0.400 and 0.500" in answer(found)
    found.rows[0]["distance"] = float("nan")
    assert answer(found) == ""


def test_there_is_no_answer_without_the_control_or_a_metric():
    assert answer(Artifacts()) == ""
    assert answer(artifacts(0.1, STYLE, controls=("own",))) == ""
    assert answer(artifacts(0.1)) == ""
