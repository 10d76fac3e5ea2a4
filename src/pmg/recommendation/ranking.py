"""Recommenders of cornac on users' likes, each fitted and tuned, which rank all items; a model that reorders some."""

from __future__ import annotations

import contextlib
import inspect
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp

from pmg.configuration.instantiate import nearest
from pmg.domain import PmgError
from pmg.evaluation.metric_interface import MetricInfo
from pmg.installation import install_extra
from pmg.recommendation.behaviour import Behaviour, Likes

try:
    from cornac import metrics as cornac_metrics
    from cornac import models
    from cornac.data import ImageModality
    from cornac.eval_methods import BaseMethod
except ModuleNotFoundError as error:
    raise PmgError(f"pmg-recommend needs {error.name}: {install_extra('recommend')}") from error

KINDS = ("own", "crowd", "shuffled", "noise")  # of item features, see `item_features`
CONTROLS = KINDS[2:]
CHOSEN_BY = "ndcg_at_10"
NEW = "recall_of_new_at_20"
METRICS = (
    MetricInfo("recall_at_10", "recall at 10", range=(0.0, 1.0)),
    MetricInfo("recall_at_20", "recall at 20", range=(0.0, 1.0)),
    MetricInfo(CHOSEN_BY, "nDCG at 10", range=(0.0, 1.0)),
    MetricInfo("mrr", "mean reciprocal rank", range=(0.0, 1.0)),
    MetricInfo(NEW, "recall at 20 of new items", range=(0.0, 1.0)),
)
PAIR_METRICS = tuple(one for one in METRICS if not one.name.endswith("_20"))  # these are equal for orders of 20 items
PENALTY = 1.0  # of the squared weights, beside a sum over users
FOLDS = 5


class Recommender:
    """A model of cornac, by the name of its class, with its arguments; PmgError if a name is unknown.

    Of the values that are `tried` for further arguments those of the best validation nDCG are kept. `pictures` are
    kinds of item features that it is fitted with, each a method of its own; empty: it takes none.
    """

    def __init__(
        self, model: str, arguments: Mapping[str, Any] | None = None,
        tried: Mapping[str, Sequence[Any]] | None = None, pictures: Sequence[str] = (),
    ) -> None:  # fmt: skip
        known = [name for name, found in vars(models).items() if inspect.isclass(found)]
        if model not in known:
            raise PmgError(f"cornac has no model '{model}'{nearest(model, known)}")
        self.build, self.pictures = getattr(models, model), tuple(pictures)
        self.arguments, self.tried = dict(arguments or {}), dict(tried or {})
        if strange := set(self.pictures) - set(KINDS):
            raise PmgError(f"a recommender's pictures are some of {', '.join(KINDS)}, got '{min(strange)}'")
        taken = inspect.signature(self.build).parameters
        for name in (*self.arguments, *self.tried):
            if name not in taken:
                raise PmgError(f"cornac's {model} has no argument '{name}'{nearest(name, taken)}")

    def variants(self) -> Iterator[tuple[dict[str, Any], Any]]:
        """Yields the tried arguments, and a model with them, for every combination."""
        for values in itertools.product(*self.tried.values()):
            chosen = dict(zip(self.tried, values, strict=True))
            yield chosen, self.build(**self.arguments, **chosen)


@dataclass(frozen=True)
class Ranked:
    """What a fitted model says with the tried arguments that were `chosen` by nDCG at 10 on validation likes.

    `orders` has for each user with test likes the ids of all items that they had not liked before, best first;
    `scores` are in the same order.
    """

    chosen: Mapping[str, Any]
    validation: float
    orders: Mapping[str, Sequence[str]]
    scores: Mapping[str, np.ndarray]


class Catalogue:
    """Users and items in cornac's numbering, from which recommenders learn.

    `features` are `(F,)` of every item by id, for recommenders that take pictures; None: none.
    """

    def __init__(self, behaviour: Behaviour, features: Mapping[str, np.ndarray] | None = None) -> None:
        self.behaviour, images = behaviour, {}
        if features is not None:
            ids = list(behaviour.items)
            images = {"item_image": ImageModality(features=np.stack([features[one] for one in ids]), ids=ids)}
        parts = {"train_data": behaviour.train, "val_data": behaviour.validation, "test_data": behaviour.test}
        triplets = {
            name: [(user, item, 1.0) for user, ids in likes.items() for item in ids] for name, likes in parts.items()
        }
        self.method = BaseMethod.from_splits(**triplets, **images)
        self.users, self.numbers = self.method.global_uid_map, self.method.global_iid_map
        self.names = np.array(list(self.numbers))

    def fit(self, recommender: Recommender) -> Ranked:
        """Fits every variant of a recommender, and returns the one of the best validation nDCG."""
        best: tuple[dict[str, Any], Any, float] | None = None
        behaviour, threads = self.behaviour, torch.get_num_threads()
        torch.set_num_threads(1)  # so small products take a hundred times longer on two
        try:
            for chosen, model in recommender.variants():
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    model.fit(self.method.train_set, self.method.val_set)
                orders = {user: self._rank(model, user, behaviour.train)[0] for user in behaviour.validation}
                found = measure(orders, behaviour.validation, set(behaviour.items))[CHOSEN_BY].mean()
                if best is None or found > best[2]:
                    best = (chosen, model, float(found))
        finally:
            torch.set_num_threads(threads)
        if best is None:
            raise PmgError("recommenders: a value of `tried` is an empty list, so that there is nothing to fit")
        ranked = {user: self._rank(best[1], user, behaviour.train, behaviour.validation) for user in behaviour.test}
        orders, scores = zip(*ranked.values(), strict=True)
        return Ranked(best[0], best[2], dict(zip(ranked, orders, strict=True)), dict(zip(ranked, scores, strict=True)))

    def _rank(self, model: Any, user: str, *seen: Likes) -> tuple[Sequence[str], np.ndarray]:
        """Returns ids of the items that a user had not liked in `seen`, best first, with the model's scores."""
        known = {self.numbers[item] for likes in seen for item in likes.get(user, ())}
        others = np.delete(np.arange(len(self.names)), list(known))
        _, scores = model.rank(self.users[user], others)
        order = np.argsort(-scores, kind="stable")
        return self.names[others[order]].tolist(), scores[order]


def measure(orders: Mapping[str, Sequence[str]], later: Likes, known: set[str]) -> pd.DataFrame:
    """Returns the metrics of each user, by user: how well an order of items foresees what they liked later.

    `orders` has ids of items, best first, by user; relevant items (`later`) that it lacks count as not found. Recall
    of new items is that of all but `known`, which recommenders learned from; NaN without any.
    """
    names = ("recall_at_10", "recall_at_20", CHOSEN_BY, "mrr")
    asked = (cornac_metrics.Recall(10), cornac_metrics.Recall(20), cornac_metrics.NDCG(10), cornac_metrics.MRR())
    rows = {}
    for user, order in orders.items():
        relevant, place = np.array(later[user]), np.array(order)
        found = np.isin(relevant, place).any()  # without it, the reciprocal rank is not defined
        rows[user] = {
            name: float(metric.compute(gt_pos=relevant, pd_rank=place)) if found else 0.0
            for name, metric in zip(names, asked, strict=True)
        }
        new = np.array([item for item in relevant if item not in known])
        rows[user][NEW] = float(cornac_metrics.Recall(20).compute(gt_pos=new, pd_rank=place)) if len(new) else np.nan
    return pd.DataFrame.from_dict(rows, orient="index")


def fit_choice(features: Sequence[np.ndarray], chosen: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the weights `(F,)` of a conditional logit (McFadden 1974), with a penalty of their squares.

    Of each user there are features `(N, F)` of the candidates, N of any number, and bool `chosen` `(N,)`, which of
    them they took; users who took none say nothing.
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
    seed: int,
) -> dict[str, list[str]]:  # fmt: skip
    """Returns each user's candidates `items`, which have `features` `(N, F)`, in a new order, best first.

    The weights that order a user's candidates are fitted on what other users took `later`, in folds; features are
    standardised by the same users.
    """
    users = np.array(list(features))
    fold = np.random.default_rng(seed).permutation(len(users)) % min(FOLDS, len(users))
    found: dict[str, list[str]] = {}
    for number in range(fold.max() + 1):
        known = [str(user) for user in users[fold != number]] or [str(user) for user in users]
        rows = np.concatenate([features[user] for user in known])
        mean, deviation = rows.mean(0), np.maximum(rows.std(0), 1e-9)
        scaled = {user: (values - mean) / deviation for user, values in features.items()}
        weights = fit_choice([scaled[user] for user in known], [np.isin(items[user], later[user]) for user in known])
        for user in map(str, users[fold == number]):
            order = np.argsort(-(scaled[user] @ weights), kind="stable")
            found[user] = [items[user][place] for place in order]
    return {user: found[user] for user in features}
