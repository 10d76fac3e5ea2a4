"""Bradley-Terry utilities and means with intervals clustered by rater and item."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import t

from pmg.evaluation.statistics import LEVEL

ROUNDING = 1e-12  # what is smaller is no effect


@dataclass(frozen=True)
class Estimates:
    """Values of K methods with their uncertainty.

    Values `(K,)`; covariances by rater and item, by rater, by item, `(3, K, K)`; `freedom` of Student's distribution:
    the smaller number of clusters less one; 0: no interval.
    """

    values: np.ndarray
    covariances: np.ndarray
    freedom: int

    def contrast(self, weights: np.ndarray) -> dict[str, float]:
        """Returns mean, 95 % interval and two-sided p-value of a sum of the values with weights `(K,)`.

        The variance is the largest of the three: the two-way estimate may be smaller than one-way ones by chance.
        Where all clusters say the same, what they say has no interval; rounding errors are no effect.
        """
        error = float(np.sqrt(max(0.0, *(weights @ one @ weights for one in self.covariances))))
        mean, error = (0.0 if abs(one) < ROUNDING else one for one in (float(weights @ self.values), error))
        if not self.freedom or (mean and not error):
            return {"mean": mean, "low": np.nan, "high": np.nan, "p": np.nan}
        half = float(t.ppf((1 + LEVEL) / 2, self.freedom)) * error
        p = float(2 * t.sf(abs(mean) / error, self.freedom)) if error else 1.0
        return {"mean": mean, "low": mean - half, "high": mean + half, "p": p}

    def value(self, method: int) -> dict[str, float]:
        """Returns mean and interval of one method's value."""
        found = self.contrast(np.eye(len(self.values))[method])
        sure = found["low"] < found["high"]
        return {"mean": found["mean"], **{name: found[name] if sure else np.nan for name in ("low", "high")}}


def bradley_terry(
    left: np.ndarray, right: np.ndarray, score: np.ndarray, raters: np.ndarray, items: np.ndarray, methods: int
) -> Estimates:
    """Returns the utilities of methods, which sum to zero.

    The probability that the left image wins is the logistic function of the difference of utilities and an advantage
    of the left side; a tie, 0.5, is half a win of either. Arrays are `(N,)`: scores, and indices of all else.
    ValueError if utilities are not finite, because a group of methods, or a side, never lost.
    """
    import statsmodels.api as sm
    from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

    if not is_comparable(left, right, score, methods):
        raise ValueError("a method, or a group of them, won or lost all of its comparisons")
    one_hot = np.eye(methods)
    design = np.column_stack([(one_hot[left] - one_hot[right])[:, 1:], np.ones(len(score))])
    try:
        with warnings.catch_warnings(action="error", category=PerfectSeparationWarning):
            fitted = sm.GLM(score, design, family=sm.families.Binomial()).fit()
    except PerfectSeparationWarning as error:
        raise ValueError("the methods and their sides tell all answers") from error
    return _estimates(fitted, np.eye(methods)[:, 1:] - 1 / methods, raters, items)


def clustered_means(
    values: np.ndarray, methods: np.ndarray, raters: np.ndarray, items: np.ndarray, count: int
) -> Estimates:
    """Returns the mean of values `(N,)` by method, given the index of each; each of the `count` methods occurs."""
    import statsmodels.api as sm

    fitted = sm.OLS(values, np.eye(count)[methods]).fit()
    return _estimates(fitted, np.eye(count), raters, items)


def clustered_intervals(values: np.ndarray, raters: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the means `(S,)` of many surveys of one design, and half the widths of their intervals `(S,)`.

    They are those of `clustered_means` of values `(S, N)` for one method, without a fit for each survey.
    """
    means = values.mean(axis=1)
    _, pairs = np.unique(np.stack([raters, items]), axis=1, return_inverse=True)
    deviations = values - means[:, None]
    by_rater, by_item, by_pair = (_sum_of_squares(deviations, groups) for groups in (raters, items, pairs.ravel()))
    variances = np.maximum.reduce([by_rater + by_item - by_pair, by_rater, by_item])
    limit = t.ppf((1 + LEVEL) / 2, _freedom(raters, items))
    return means, limit * np.sqrt(variances) / values.shape[1]


def _sum_of_squares(deviations: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Returns the sum of squares of the groups' sums `(S,)`, corrected for the number of groups."""
    names, group = np.unique(groups, return_inverse=True)
    count = len(names)
    members = coo_array((np.ones(len(group)), (group, np.arange(len(group)))), shape=(count, len(group))).tocsr()
    return ((members @ deviations.T) ** 2).sum(axis=0) * count / (count - 1)


def is_comparable(left: np.ndarray, right: np.ndarray, score: np.ndarray, methods: int) -> bool:
    """Returns whether utilities are finite: each method beats each other one, directly or through others."""
    winners = np.concatenate([left[score > 0], right[score < 1]])
    losers = np.concatenate([right[score > 0], left[score < 1]])
    graph = coo_array((np.ones(len(winners)), (winners, losers)), shape=(methods, methods))
    return bool(len(winners)) and connected_components(graph, connection="strong")[0] == 1


def _estimates(fitted: Any, weights: np.ndarray, raters: np.ndarray, items: np.ndarray) -> Estimates:
    """Returns weighted sums of the first parameters, of which each of K values has a row of `weights`."""
    from statsmodels.stats.sandwich_covariance import cov_cluster_2groups

    freedom, size = _freedom(raters, items) if fitted.df_resid > 0 else 0, weights.shape[1]
    found = cov_cluster_2groups(fitted, raters, items) if freedom else [np.zeros_like(fitted.cov_params())] * 3
    covariances = np.stack([weights @ one[:size, :size] @ weights.T for one in found])
    return Estimates(weights @ fitted.params[:size], covariances, freedom)


def _freedom(*groups: Sequence[int] | np.ndarray) -> int:
    return min(len(np.unique(group)) for group in groups) - 1
