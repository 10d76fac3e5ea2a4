"""Recommenders of cornac, their metrics, and the model that orders candidates anew."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from likes import timeline
from pmg.domain import PmgError
from pmg.recommendation.behaviour import Behaviour
from pmg.recommendation.features import encode_pairs, item_features, pair_features
from pmg.recommendation.pairs import EVERYBODY, Candidates
from pmg.recommendation.ranking import Catalogue, Recommender, fit_choice, measure, rerank
from pmg.records.storage import read_records
from runs import record, write_records


@pytest.fixture(scope="module")
def behaviour():
    """Forty users of two tastes: half of them like items a0 to a9, the others b0 to b9, each in another order."""
    rng = np.random.default_rng(0)
    tastes = {f"{taste}{user}": taste for taste in "ab" for user in range(20)}
    return Behaviour.cut(
        [timeline(name, [f"{taste}{n}" for n in rng.permutation(10)[:8]]) for name, taste in tastes.items()], 0.1, 0.2
    )


def test_a_recommender_foresees_tastes_and_proposes_nothing_known(behaviour):
    found = Catalogue(behaviour).fit(Recommender("EASE", {"verbose": False}, {"lamb": [1, 1e9]}))
    assert found.validation > 0.3
    for user, order in found.orders.items():
        seen = {*behaviour.train[user], *behaviour.validation[user]}
        assert len(order) == 20 - len(seen)
        assert not seen & set(order)
        assert [item[0] for item in order[: 10 - len(seen)]] == [user[0]] * (10 - len(seen))
        assert (np.diff(found.scores[user]) <= 0).all()


def test_a_recommender_of_pictures_needs_them_to_say_something(behaviour):
    tastes = {item: np.array([1.0 if item[0] == "a" else -1.0, 0.5]) for item in behaviour.items}
    model = Recommender(
        "VBPR", {"k": 1, "k2": 2, "n_epochs": 30, "learning_rate": 0.05, "seed": 0, "verbose": False}, {}, ["own"]
    )
    nothing = {item: np.zeros(2) for item in tastes}
    own, none = (Catalogue(behaviour, found).fit(model).orders for found in (tastes, nothing))
    right = [np.mean([item[0] == user[0] for item in order[:3]]) for user, order in own.items()]
    assert np.mean(right) > 0.9
    known = set(behaviour.items)
    assert set(measure(own, behaviour.test, known).columns) == set(measure(none, behaviour.test, known).columns)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["EAZE"], "cornac has no model 'EAZE'; did you mean 'EASE'"),
        (["EASE", {"lambd": 3}], "EASE has no argument 'lambd'; did you mean 'lamb'"),
        (["EASE", {}, {"lam": [3]}], "has no argument 'lam'"),
        (["VBPR", {}, {}, ["own", "titles"]], "some of own, crowd, shuffled, noise, got 'titles'"),
    ],
)
def test_models_and_arguments_that_do_not_exist_are_refused(arguments, message):
    with pytest.raises(PmgError, match=message):
        Recommender(*arguments)


def test_metrics_are_those_of_the_textbook():
    order = list("abcdefghijklmnopqrstuvwxyz")
    rows = measure({"u": order, "v": order, "w": order}, {"u": ["a", "d"], "v": ["u", "0"], "w": ["0"]}, set("abcdw"))
    ideal = 1 + 1 / math.log2(3)
    assert rows.loc["u", ["recall_at_10", "recall_at_20", "mrr"]].tolist() == [1, 1, 1]
    assert rows.loc["u", "ndcg_at_10"] == pytest.approx((1 + 1 / math.log2(5)) / ideal)
    assert rows.loc["v", ["recall_at_10", "recall_at_20", "ndcg_at_10"]].tolist() == [0, 0, 0]
    assert rows.loc["v", "mrr"] == pytest.approx(1 / 21)
    assert not rows.loc["w", ["recall_at_10", "mrr"]].any()
    assert math.isnan(rows.loc["u", "recall_of_new_at_20"])  # both are known
    assert rows.loc["v", "recall_of_new_at_20"] == 0


def test_features_of_other_items_have_the_same_moments():
    rng = np.random.default_rng(0)
    own = {str(number): rng.normal(3, 2, 6) for number in range(500)}
    features = item_features(own, {item: one + 1 for item, one in own.items()}, 0, components=4, deviation=0.5)
    kinds = {kind: np.stack(list(features[kind].values())) for kind in ("own", "shuffled", "noise")}
    assert np.allclose(np.sort(kinds["own"], 0), np.sort(kinds["shuffled"], 0))
    assert not np.allclose(kinds["own"], kinds["shuffled"])
    shifts = np.stack(list(features["crowd"].values())) - kinds["own"]  # on the same components
    assert np.allclose(shifts, shifts[0])
    assert np.abs(shifts[0]).max() > 0.01
    for values in kinds.values():
        assert values.shape == (500, 4)
        assert np.allclose(values.mean(0), 0, atol=0.1)
        assert np.allclose(np.cov(values.T), 0.25 * np.eye(4), atol=0.05)


def test_the_choice_among_two_is_a_logistic_regression():
    """Three of four users take the candidate of the larger feature: the weight is log 3, less the penalty."""
    features = [np.array([[1.0], [0.0]])] * 400
    chosen = [np.array([number % 4 != 0, number % 4 == 0]) for number in range(400)]
    assert fit_choice(features, chosen) == pytest.approx([math.log(3)], abs=0.03)
    assert fit_choice(features, [np.array([False, False])] * 400) == pytest.approx([0.0])


def test_candidates_are_ordered_by_what_other_users_chose():
    """The second feature says what is taken; a user's own choice says nothing, since others' weights order theirs."""
    rng = np.random.default_rng(0)
    features = {str(user): rng.normal(size=(5, 2)) for user in range(60)}
    items = {user: list("abcde") for user in features}
    later = {user: [items[user][values[:, 1].argmax()]] for user, values in features.items()}
    found = rerank(features, items, later, seed=0)
    assert list(found) == list(features)
    assert all(sorted(order) == items["0"] for order in found.values())
    assert np.mean([found[user][0] == later[user][0] for user in found]) > 0.9
    changed = rerank(features, items, later | {"0": ["e"]}, seed=0)
    assert changed["0"] == found["0"]


def test_pictures_of_pairs_are_those_of_their_candidates(tmp_path):
    found = {"u": Candidates(["a"], ["b", "c"], [2.0, 1.0], [])}
    write_records(tmp_path, [replace(record("u", [(0.2, 0.4)]), example=f"u-{row}") for row in range(3)])
    made, folder = read_records(tmp_path), str(tmp_path)

    def corner(pictures):
        return pictures[:, :, 0, 0]

    pairs = encode_pairs(corner, folder, made[:2], found)
    assert {key: list(vectors) for key, vectors in pairs.items()} == {("u", "own"): ["b", "c"]}
    for some, message in (
        (made, "has pictures of u-2, which is no candidate"),
        (made[:1], "has no picture of item c for u"),
        ([], r"has no pictures of pictures\.method"),
    ):
        with pytest.raises(PmgError, match=message):
            encode_pairs(corner, folder, some, found)


def test_methods_know_pictures_that_were_made_for_one_or_another():
    own = {
        "a": np.array([1.0, 0.0]),
        "b": np.array([-1.0, 0.0]),
        "c": np.array([0.0, 1.0]),
        "d": np.array([0.0, -1.0]),
    }
    found = {"u": Candidates(["a"], ["b", "c"], [2.0, 1.0], ["c"]), EVERYBODY: Candidates(["a"], ["a"], [0.0], [])}
    pairs = {("u", "own"): {"b": own["a"], "c": own["c"]}, ("u", "mismatched"): {"b": own["c"], "c": own["d"]}}
    methods = pair_features(found, own, pairs)
    assert [(name, values["u"].shape[1]) for name, values in methods.items()] == [
        ("recommender", 1), ("own_picture", 2), ("made_for_user", 3), ("made_for_another", 3), ("both", 4)
    ]  # fmt: skip
    assert methods["recommender"]["u"][:, 0] == pytest.approx([1, -1])
    assert methods["own_picture"]["u"][:, 1] == pytest.approx([-1, 0])
    assert methods["made_for_user"]["u"][:, 1:] == pytest.approx(np.array([[1, -1], [0, 1]]))
    assert methods["made_for_another"]["u"][:, 1:] == pytest.approx(np.array([[0, 0], [0, -1]]))
