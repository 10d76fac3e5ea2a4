"""Estimates agree with those of libraries, and their intervals include the truth as often as they should."""

from __future__ import annotations

import numpy as np
import pytest

from pmg.domain import PmgError
from pmg.studio.survey.clustered import bradley_terry, clustered_intervals, clustered_means
from pmg.studio.survey.design import plan_tasks
from pmg.studio.survey.sample_size import Comparisons, Raters, SampleSize
from pmg.studio.survey.schema import SurveyDesignConfig

pytestmark = [pytest.mark.slow, pytest.mark.ci]

METHODS = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def tasks():
    return Comparisons.of(plan_tasks(SurveyDesignConfig(25, 24, 24, 0, 0), METHODS), METHODS)


def fit(tasks, score):
    return bradley_terry(tasks.left, tasks.right, score, tasks.raters, tasks.items, 4)


def test_utilities_are_those_of_evalica(tasks):
    evalica = pytest.importorskip("evalica")
    score = Raters((0.8, 0.2, -0.3, -0.7)).scores(tasks, 1, np.random.default_rng(0))[0]
    both = [np.concatenate(each) for each in ((tasks.left, tasks.right), (tasks.right, tasks.left))]
    scores = np.concatenate([score, 1 - score])  # each comparison on both sides: no advantage of the left
    twice = [np.tile(each, 2) for each in (tasks.raters, tasks.items)]
    ours = bradley_terry(*both, scores, *twice, 4).values
    winners = [
        evalica.Winner.X if one == 1 else evalica.Winner.Y if one == 0 else evalica.Winner.Draw for one in score
    ]
    theirs = evalica.bradley_terry(
        [METHODS[one] for one in tasks.left],
        [METHODS[one] for one in tasks.right],
        winners,
        limit=5000,
        tolerance=1e-10,
    ).scores
    logs = np.log([theirs[name] for name in METHODS])
    assert ours == pytest.approx(logs - logs.mean(), abs=1e-3)


def test_intervals_include_the_truth(tasks):
    raters = Raters((-0.9, -0.3, 0.3, 0.9))
    truth, scores = raters.population_utilities(tasks), raters.scores(tasks, 60, np.random.default_rng(0))
    found = [fit(tasks, score) for score in scores]
    inside = [[each.value(k)["low"] <= truth[k] <= each.value(k)["high"] for k in range(4)] for each in found]
    assert 0.9 <= np.mean(inside) <= 1
    assert np.mean([np.all(np.diff(each.values) > 0) for each in found]) > 0.9


def test_intervals_are_wider_where_raters_differ():
    rng = np.random.default_rng(0)
    raters, items = np.repeat(np.arange(10), 20), np.tile(np.arange(20), 10)
    noise = rng.standard_normal(200)
    widths = []
    for spread in (0, 2):
        values = noise + spread * rng.standard_normal(10)[raters]
        found = clustered_means(values, np.zeros(200, dtype=int), raters, items, 1).value(0)
        widths.append(found["high"] - found["low"])
    assert widths[1] > 3 * widths[0]


@pytest.mark.parametrize("items", [5, 20])  # each pair of rater and item four times, or once
def test_intervals_of_many_surveys_are_those_of_each(items):
    raters, item = np.repeat(np.arange(10), 20), np.arange(200) % items
    surveys = np.random.default_rng(0).standard_normal((2, 200)) + 0.5 * np.arange(10)[raters]
    means, halves = clustered_intervals(surveys, raters, item)
    for survey, mean, half in zip(surveys, means, halves, strict=True):
        found = clustered_means(survey, np.zeros(200, dtype=int), raters, item, 1).value(0)
        assert [mean, mean - half, mean + half] == pytest.approx([found["mean"], found["low"], found["high"]])


def test_a_method_that_always_wins_has_no_utility(tasks):
    with pytest.raises(ValueError, match="all of its comparisons"):
        fit(tasks, np.where(tasks.left == 0, 1.0, np.where(tasks.right == 0, 0.0, 0.5)))


def test_one_rater_has_no_interval():
    one = np.zeros(4, dtype=int)
    found = clustered_means(np.array([1.0, 2, 3, 4]), one, one, np.arange(4), 1).value(0)
    assert found["mean"] == 2.5
    assert np.isnan(found["low"])


def test_a_method_that_lost_each_time_has_no_interval():
    raters, items = np.repeat(np.arange(5), 4), np.tile(np.arange(4), 5)
    lost = clustered_means(np.zeros(20), np.zeros(20, dtype=int), raters, items, 1).value(0)
    assert lost["mean"] == 0
    assert np.isnan([lost["low"], lost["high"]]).all()


@pytest.mark.parametrize(("value", "p"), [(0.5, 1.0), (0.5 + 1e-15, 1.0), (1.0, None)])
def test_what_all_say_alike_has_no_interval_and_rounding_no_effect(value, p):
    raters, items = np.repeat(np.arange(5), 4), np.tile(np.arange(4), 5)
    methods = np.tile([0, 1], 10)
    found = clustered_means(np.where(methods == 0, value, 0.5), methods, raters, items, 2).contrast(
        np.array([1.0, -1.0])
    )
    assert (found["p"], found["low"]) == (p, 0) if p else (np.isnan(found["p"]) and np.isnan(found["low"]))


def test_larger_effects_need_fewer_raters():
    sizes = [SampleSize(rate, simulations=200).find()[0] for rate in (0.6, 0.65, 0.8)]
    assert sizes == sorted(sizes, reverse=True)
    assert SampleSize(0.501, simulations=50).find(16)[0] is None
    assert SampleSize(0.99, simulations=50, pairs=200, items=100, deviation=0.0).find()[0] == 2
    with pytest.raises(PmgError, match=r"needs two items or more, got 1: raise design.examples"):
        SampleSize(items=1)
