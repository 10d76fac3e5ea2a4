"""A small model that orders the items which a recommender proposes, by what pictures say of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

PENALTY = 1.0  # of the squared weights, beside a sum over users
FOLDS = 5


def fit_choice(features: Sequence[np.ndarray], chosen: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the weights `(F,)` of a conditional logit (McFadden 1974), with a penalty of their squares.

    Args:
        features: of each user's candidates, `(N, F)`; N may differ.
        chosen: of each user, which candidates they took, bool `(N,)`; users who took none say nothing.
    """
    pairs = [(x, y / y.sum()) for x, y in zip(features, chosen, strict=True) if y.any()]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Returns the penalised negative log-likelihood, and its gradient."""
        value, gradient = PENALTY * weights @ weights / 2, PENALTY * weights
        for x, y in pairs:
            logits = x @ weights
            total = logsumexp(logits)
            value += total - y @ logits
            gradient = gradient + x.T @ (np.exp(logits - total) - y)
        return float(value), gradient

    return np.asarray(minimize(loss, np.zeros(features[0].shape[1]), jac=True, method="L-BFGS-B").x)


def rerank(
    features: Mapping[str, np.ndarray], items: Mapping[str, Sequence[str]], later: Mapping[str, Sequence[str]],
    seed: int, folds: int = FOLDS,
) -> dict[str, list[str]]:  # fmt: skip
    """Returns each user's candidates in a new order, best first.

    The weights that order a user's candidates are fitted on other users, in folds; features are standardised by the
    same users.

    Args:
        features: of each user's candidates, `(N, F)`.
        items: ids of the candidates.
        later: ids of what the users took later.
        seed: of the folds.
        folds: number of groups of users.
    """
    users = np.array(list(features))
    fold = np.random.default_rng(seed).permutation(len(users)) % min(folds, len(users))
    found: dict[str, list[str]] = {}
    for number in range(fold.max() + 1):
        known = [str(user) for user in users[fold != number]] or [str(user) for user in users]
        scale = _standardise(np.concatenate([features[user] for user in known]))
        weights = fit_choice(
            [scale(features[user]) for user in known], [np.isin(items[user], later[user]) for user in known]
        )
        for user in map(str, users[fold == number]):
            order = np.argsort(-(scale(features[user]) @ weights), kind="stable")
            found[user] = [items[user][place] for place in order]
    return {user: found[user] for user in features}


def _standardise(rows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function that subtracts the rows' means and divides by their deviations."""
    mean, deviation = rows.mean(0), np.maximum(rows.std(0), 1e-9)
    return lambda values: (values - mean) / deviation
