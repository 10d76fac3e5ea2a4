"""A survey's results: the form of the other studies, random clickers, agreement."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pmg.domain import PmgError
from pmg.evaluation.comparison import Comparison
from pmg.evaluation.metric_interface import MetricInfo, describe
from pmg.studio.survey.analysis import Analysis, shown_rows, write_analysis
from pmg.studio.survey.answers import RaterAnswers
from pmg.studio.survey.observations import observe
from surveys import METHODS, answer, code, make_survey

pytestmark = [pytest.mark.slow, pytest.mark.ci]

BEST = METHODS[1]


@pytest.fixture(scope="module")
def key():
    return make_survey(items=13, raters=12, pairs=12, ratings=6, checks=5)[1]


def observed(key, **options):
    given = [answer(key, slot, BEST) for slot in range(11)] + [answer(key, 11, clicker=True, rng=random.Random(3))]
    return observe([RaterAnswers.model_validate({**each, **options}) for each in given], key)


@pytest.fixture(scope="module")
def results(key):
    rows = pd.DataFrame(
        [
            {
                "example": f"secret{n}", "method": method, "control": "own", "seed": 0,
                "good": float(method == BEST), "bad": float(method == BEST), "flat": 0.0,
            }
            for n in range(13)
            for method in METHODS
        ]
    )  # fmt: skip
    infos = [MetricInfo("good", "good"), MetricInfo("bad", "bad", higher_is_better=False), MetricInfo("flat", "flat")]
    analysis = Analysis(METHODS, Comparison(baseline=METHODS[0], proposed=BEST, oracle="oracle"))
    return analysis.build(observed(key), rows, describe(infos))


def test_the_preferred_method_wins(results):
    for name in ("win_rate", "utility", "preference_rating"):
        means = {method: values[name]["mean"] for method, values in results["methods"].items()}
        assert max(means, key=means.get) == BEST
        for found in (values[name] for values in results["methods"].values()):
            assert found["low"] < found["mean"] < found["high"] or np.isnan(found["low"])  # where all say the same
    assert results["paired"][f"{BEST}-{METHODS[0]}"]["win_rate"]["p"] < 0.01


def test_a_random_clicker_is_found_and_left_out(results):
    excluded = [rater for rater, found in results["survey"]["attention"].items() if found["excluded"]]
    assert excluded == [f"{11:032x}"]
    assert results["survey"]["raters"] == 11


def test_people_agree_with_the_metric_that_sees_what_they_see(results):
    agreement = results["survey"]["agreement"]
    assert agreement["good"]["mean"] > 0.8 > 0.2 > agreement["bad"]["mean"]
    assert agreement["good"]["p"] < 0.01
    assert "flat" not in agreement


def test_the_seconds_are_those_of_raters_who_count(key):
    found = observed(key)
    assert len(found.seconds) > len(found.without([f"{11:032x}"]).seconds) > 0
    slow = found.seconds.assign(seconds=np.where(found.seconds["rater"] == f"{11:032x}", 1e6, 2.0))
    analysed = Analysis(METHODS).build(replace(found, seconds=slow))
    assert analysed["survey"]["median_seconds"] == 2.0


def test_only_evaluated_images_are_compared_with_the_raters(key):
    images = list(key["images"].values())
    rows = pd.DataFrame(images).assign(control="own", good=1.0)
    again = rows.assign(seed=rows["seed"] + 1, good=0.0)
    assert shown_rows(pd.concat([again, rows]), images)["good"].eq(1.0).all()
    with pytest.raises(PmgError, match=r"evaluation: it has no image of example 'secret\d+' by .* with seed 0"):
        shown_rows(again, images)


def test_alpha_is_that_of_the_library_on_a_known_table():
    from pmg.studio.survey.analysis import agreement_of_raters
    from pmg.studio.survey.observations import Observations

    pairs = pd.DataFrame({"rater": ["a", "b"] * 4, "example": list("11223344"), "left": "x", "right": "y"})
    none = pd.DataFrame(columns=["rater", "example", "method", "accuracy_rating", "preference_rating"])
    same = pairs.assign(score=[1, 1, 0, 0, 1, 1, 0, 0])
    found = agreement_of_raters(Observations(same, none, none, none))
    assert found == {"comparisons": 1.0, "accuracy_rating": None, "preference_rating": None}
    swapped = same.copy()  # the same judgements, seen from the other side
    swapped.loc[::2, ["left", "right"]] = ["y", "x"]
    swapped.loc[::2, "score"] = 1 - swapped.loc[::2, "score"]
    assert agreement_of_raters(Observations(swapped, none, none, none))["comparisons"] == 1.0


def test_files_are_those_of_a_study(tmp_path, results, key):
    write_analysis(tmp_path, results, observed(key))
    read = json.loads((tmp_path / "results.json").read_text())
    assert {"metrics", "comparison", "methods", "paired", "control", "gap_closed"} <= set(read)
    assert "Krippendorff" in (tmp_path / "table.md").read_text()
    rows = pd.read_parquet(tmp_path / "rows.parquet")
    assert {"example", "user", "method", "control", "seed", "win_rate"} <= set(rows.columns)
    assert rows["user"].nunique() == results["survey"]["raters"] == 11


def test_few_answers_have_no_interval_but_a_table(tmp_path, key):
    few = observe([RaterAnswers.model_validate(answer(key, 0, BEST))], key)
    results = Analysis(METHODS).build(few)
    write_analysis(tmp_path, results, few)
    text = (tmp_path / "results.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["methods"][BEST]["win_rate"]["low"] is None


def test_a_survey_of_clickers_alone_is_refused(key):
    given = [RaterAnswers.model_validate(answer(key, slot, clicker=True, rng=random.Random(3))) for slot in (11,)]
    with pytest.raises(PmgError, match="failed the attention checks"):
        Analysis(METHODS).build(observe(given, key))


def test_unanimous_raters_have_a_table(tmp_path):
    key = make_survey()[1]

    def answers(slot, value):
        given = []
        for number, (kind, _, _, *expected) in enumerate(key["plans"][slot]):
            said = {"rating": {"accuracy": 5, "preference": 5}, "check": (expected or [None])[0]}.get(kind, value)
            given.append({"task": number, "value": said, "seconds": 1.0})
        return RaterAnswers(survey=key["survey"], rater=code(slot), slot=slot, consent=True, answers=given)

    for value in ("tie", "left"):
        unanimous = observe([answers(slot, value) for slot in range(6)], key)
        results = Analysis(METHODS).build(unanimous)
        write_analysis(tmp_path, results, unanimous)
        assert (results["survey"]["raters"], results["survey"]["ties"]) == (6, float(value == "tie"))
        assert "utility" not in results["methods"][BEST]  # they would be infinite, or without a deviation
        assert "NaN" not in (tmp_path / "results.json").read_text()
