"""Ratings and reactions to likes and dislikes."""

from __future__ import annotations

import math

import pytest

from pmg.data.feedback import Feedback
from pmg.domain import Example, Item, PmgError

ITEMS = {name: Item(name, name, name) for name in "abc"}


def test_low_ratings_are_dislikes_and_those_between_say_nothing():
    ratings = [(ITEMS["c"], "rated", 2.0, 10), (ITEMS["b"], "rated", 3.0, 20), (ITEMS["a"], "rated", 5.0, 30)]
    interactions = [found for rating in ratings if (found := Feedback().read(*rating))]
    assert [(b.item.id, b.liked, b.action) for b in interactions] == [("c", False, "rated 2"), ("a", True, "rated 5")]
    example = Example("e", "u", tuple(interactions), ITEMS["b"], ())
    assert ([i.id for i in example.liked], [i.id for i in example.disliked]) == (["a"], ["c"])


def test_negative_actions_are_dislikes():
    read = [Feedback().read(ITEMS["a"], action, math.nan, 1) for action in ("returned", "bought")]
    assert [(found.action, found.liked) for found in read] == [("returned", False), ("bought", True)]


def test_no_rating_is_both():
    with pytest.raises(PmgError, match=r"dislike_to \(4\) must be below like_from \(4\.0\)"):
        Feedback(dislike_to=4)


def test_known_verbs_have_their_sign_and_others_are_asked_for():
    feedback = Feedback(positive=["gifted"], negative=["bought"])
    assert [feedback.likes(action) for action in ("Added to cart", "gifted", "bought", "RETURN", "pondered")] == [
        True, True, False, False, None,
    ]  # fmt: skip
    feedback.check({"gifted": 3, "bought": 2, "return": 1})
    with pytest.raises(PmgError, match=r"is 'pondered' a like or a dislike\? Name each of pondered in data"):
        Feedback().check({"bought": 2, "pondered": 1})


def test_a_verb_that_never_occurs_is_refused():
    said = (
        r"data.feedback.negative: no interaction is 'retrun'; did you mean 'return'\?; there are bought \(2\), return"
    )
    with pytest.raises(PmgError, match=said):
        Feedback(negative=["retrun"]).check({"bought": 2, "return": 1})
    with pytest.raises(PmgError, match="'bought' is both positive and negative"):
        Feedback(positive=["bought"], negative=["bought"])


def test_what_prepare_was_told_holds_where_nothing_else_is_said(tmp_path):
    told = Feedback(like_from=3.0, positive=["gifted"], negative=["pondered"])
    told.record(tmp_path)
    for given, threshold in ((Feedback(), 3.0), (Feedback(like_from=3.5), 3.5)):
        found = Feedback.recorded(tmp_path, given)
        assert (found.like_from, [*found.positive], [*found.negative]) == (threshold, ["gifted"], ["pondered"])
    assert Feedback.recorded(tmp_path, Feedback(positive=["x"])) == Feedback(like_from=3.0, positive=["x"])
    other = Feedback(like_from=3.5, positive=["pondered"])
    assert Feedback.recorded(tmp_path, other) == other
    assert Feedback.recorded(tmp_path / "none", told) is told
    for content in ("{", '{"other": []}'):
        (tmp_path / "feedback.json").write_text(content)
        with pytest.raises(PmgError, match=r"feedback\.json is damaged\. Delete it"):
            Feedback.recorded(tmp_path, Feedback())
