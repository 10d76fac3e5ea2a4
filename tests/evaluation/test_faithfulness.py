"""Agreement of keywords with what was liked later, in closed form."""

from __future__ import annotations

from math import log2

import pytest
import torch
from torchmetrics.functional.retrieval import retrieval_normalized_dcg

from pmg.domain import Example, Item, Keywords, PmgError
from pmg.evaluation.faithfulness import agreement, agreement_rows, count_words, with_words

WORDS = ("war", "crime", "drama", "horror", "western")
LATER = [Item(str(i), str(i), str(i), words) for i, words in enumerate([("war", "crime"), ("war",), ("drama", "war")])]


def measure(*words):
    return tuple(agreement(Keywords(words), LATER, WORDS).values())


def test_words_of_later_likes_in_their_order_are_perfect():
    assert measure("war", "crime", "drama") == (1, 1)
    assert measure("war", "drama", "crime") == (1, 1)  # equally frequent


def test_wrong_missing_and_foreign_words_cost():
    best = 3 + 1 / log2(3) + 1 / 2
    assert measure("horror", "war", "western") == pytest.approx((1 / 3, 3 / log2(3) / best))
    assert measure("war") == pytest.approx((1 / 3, 3 / best))
    assert measure("space opera", "war") == pytest.approx((1 / 3, 3 / log2(3) / best))
    assert measure() == (0, 0)


def test_words_that_no_later_item_has_are_wrong_where_few_words_are_right():
    found = agreement(Keywords(("horror", "war", "drama")), [Item("x", "x", "x", ("war",))], WORDS)
    assert tuple(found.values()) == pytest.approx((1 / 3, 1 / log2(3)))


def test_only_the_first_three_count():
    assert measure("horror", "western", "space opera", "war") == (0, 0)


def test_gain_is_that_of_a_whole_ranking():
    ranking = ("drama", "war", "horror", "crime", "western")
    scores = torch.tensor([float(-ranking.index(word)) for word in WORDS])
    expected = float(retrieval_normalized_dcg(scores, count_words(LATER, WORDS), top_k=3))
    assert measure(*ranking)[1] == pytest.approx(expected)


def test_later_likes_without_any_word_are_refused():
    with pytest.raises(PmgError, match="nothing that was liked later has a keyword"):
        agreement(Keywords(("war",)), [Item("x", "x", "x")], WORDS)


def test_users_without_such_words_are_left_out():
    heard, mute = (Example(user, user, (), later[0], tuple(later)) for user, later in
                   (("heard", LATER), ("mute", [Item("x", "x", "x")])))  # fmt: skip
    assert with_words([mute, heard], WORDS) == [heard]


def test_keywords_are_swapped_between_users_where_they_are_personal():
    same, own = Keywords(("war",)), Keywords(("horror",))
    methods = {"popularity": {"a": same, "b": same}, "keywords": {"a": same, "b": own}}
    rows = agreement_rows(methods, {"a": "b", "b": "a"}, {"a": LATER, "b": LATER}, WORDS, 0, ["popularity"])
    swapped = rows[rows["control"] == "mismatched"].set_index("user")
    assert set(swapped["method"]) == {"keywords"}
    assert swapped["precision_at_3"].to_dict() == pytest.approx({"a": 0, "b": 1 / 3})
