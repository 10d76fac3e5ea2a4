"""Intervals and tests over users, against theory and closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pmg.evaluation import statistics
from pmg.evaluation.statistics import (
    bootstrap_users,
    interval,
    intervals,
    mean_of_runs,
    paired_difference,
    share_of_gap,
    swap_test,
    user_means,
)


def test_users_count_once_however_many_rows_they_have():
    values, users = np.array([1.0, 1.0, 1.0, 0.0]), np.array(["b", "b", "b", "a"])
    assert user_means(values, users).tolist() == [0.0, 1.0]
    found = interval(values, users)
    assert (found.mean, found.n) == (0.5, 2)


def test_interval_of_equal_values_has_no_width():
    found = interval(np.full(10, 0.25), np.arange(10))
    assert (found.mean, found.low, found.high) == (0.25, 0.25, 0.25)


def test_interval_has_the_width_of_theory():
    values = np.random.default_rng(0).normal(size=400)
    found = interval(values, np.arange(400))
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_means_of_several_columns_have_the_intervals_of_each():
    means = pd.DataFrame({"a": np.arange(6.0), "b": [0.0, np.nan, 4.0, 1.0, np.nan, 2.0], "c": [np.nan] * 6})
    found = intervals(means)
    assert list(found) == ["a", "b"]
    for name, own in found.items():
        values = means[name].dropna().to_numpy()
        assert own == interval(values, np.arange(len(values)))


def test_a_mean_of_runs_has_students_interval():
    found = mean_of_runs(np.array([1.0, 2.0, 3.0]))
    half = 4.3027 / 3**0.5  # the quantile of two degrees of freedom
    assert [found.mean, found.low, found.high, found.n] == pytest.approx([2, 2 - half, 2 + half, 3], abs=1e-3)
    assert np.isnan(mean_of_runs(np.array([1.0])).low)


def test_interval_covers_the_true_mean_with_repeated_users():
    rng, hits = np.random.default_rng(1), 0
    for trial in range(100):
        users = np.repeat(np.arange(40), 3)
        values = rng.normal(size=40)[users] + 0.1 * rng.normal(size=120)  # rows of a user move together
        found = interval(values, users, seed=trial)
        hits += found.low <= 0 <= found.high
    assert 88 <= hits <= 99


def test_seed_decides_the_samples():
    columns = np.random.default_rng(0).normal(size=(20, 2))
    first = bootstrap_users(columns, 3)
    statistics._kept_draws.cache_clear()
    assert np.array_equal(bootstrap_users(columns, 3), first)
    assert not np.array_equal(bootstrap_users(columns, 4), first)


def test_swap_test_of_a_few_pairs_is_exact():
    assert swap_test(np.arange(1.0, 5.0), np.zeros(4)) == pytest.approx(2 / 2**4)


def test_swap_test_tells_a_gap_from_none():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2, 200))
    assert swap_test(noise[0] + 100, noise[1]) == pytest.approx(2 / (statistics.RESAMPLES + 1))  # what is seen counts
    assert swap_test(noise[0] + 1, noise[1]) < 0.001
    assert swap_test(noise[0], noise[1]) > 0.05


def test_paired_difference_uses_the_pairs():
    rng = np.random.default_rng(0)
    level = 10 * rng.normal(size=100)  # differs far more between users than between methods
    found = paired_difference(level - 0.1, level + 0.01 * rng.normal(size=100), np.arange(100))
    assert found.mean == pytest.approx(-0.1, abs=0.01)
    assert found.high < -0.09
    assert found.p < 0.001


def test_share_of_gap_is_the_ratio_of_means():
    base, goal = np.array([4.0, 6.0, 5.0]), np.array([2.0, 2.0, 2.0])
    method = base - 0.8 * (base - goal)
    found = share_of_gap(base, method, goal, np.arange(3))
    assert [found.mean, found.low, found.high] == pytest.approx([0.8, 0.8, 0.8])


def test_share_of_no_gap_is_not_finite():
    assert not np.isfinite(share_of_gap(np.ones(3), np.ones(3), np.ones(3), np.arange(3)).mean)


@pytest.mark.parametrize(("values", "users"), [([], []), ([1.0], [1, 2]), ([np.nan, 1.0], [1, 2]), ([[1.0]], [[1]])])
def test_bad_values_are_refused(values, users):
    with pytest.raises(ValueError, match="values"):
        interval(np.array(values), np.array(users))


def test_many_pairs_are_tested_by_what_permutations_converge_to(monkeypatch):
    rng = np.random.default_rng(0)
    a = rng.normal(size=400)
    b = a + rng.normal(0.03, 0.5, size=400)
    swapped = swap_test(a, b)
    monkeypatch.setattr(statistics, "MANY", 100)
    assert swap_test(a, b) == pytest.approx(swapped, abs=0.02)
    assert 0.05 < swapped < 0.95


def test_many_equal_pairs_can_be_swapped():
    assert swap_test(np.ones(statistics.MANY + 1), np.ones(statistics.MANY + 1)) == 1.0


def test_resamples_are_the_same_however_many_are_held_at_once(monkeypatch):
    columns = np.random.default_rng(0).normal(size=(50, 2))
    whole = bootstrap_users(columns, 1)
    monkeypatch.setattr(statistics, "DRAWN", 350)
    monkeypatch.setattr(statistics, "MANY", 10)  # else the kept ones are taken
    np.testing.assert_allclose(bootstrap_users(columns, 1), whole, rtol=1e-12)


def test_one_user_has_an_interval_without_width_and_no_evidence():
    result = paired_difference(np.array([1.0, 2.0]), np.array([0.0, 0.5]), np.array(["a", "a"]))
    assert (result.mean, result.low, result.high, result.p) == (1.25, 1.25, 1.25, 1.0)
