from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from pmg.domain import Item, Keywords
from pmg.models.tiny_models import tiny_language_model
from pmg.preferences.keywords import (
    Budget,
    attribute_scores,
    merge_keywords,
    rank,
    scored,
    share_read,
    target_keywords,
    without,
)
from pmg.preferences.scenarios import Attribute, Scenario
from scores import score_shared_options

SCENARIO = Scenario(
    name="test",
    template="{history}\n{instruction}",
    line="{title}",
    caption="",
    max_items=12,
    attributes={
        "outline": Attribute("Their favourite outline is", ("none", "thick black", "thin")),
        "shading": Attribute("Their favourite shading is", ("flat", "soft gradients")),
    },
    target_prefix="A sticker of: ",
    target_question="\nIt shows:",
    scene_words=("emoji",),
)


@pytest.fixture(scope="module")
def language_model():
    return tiny_language_model()


def test_scores_of_all_attributes_equal_those_of_each_alone(language_model):
    context = language_model.prefill(["apple, flat\n", "dog, thick black\n", "cat\n"])
    scores = attribute_scores(language_model, context, SCENARIO.attributes)
    assert list(scores) == list(SCENARIO.attributes)
    for name, attribute in SCENARIO.attributes.items():
        alone = score_shared_options(
            language_model, context, attribute.question, [f" {option}" for option in attribute.options]
        )
        torch.testing.assert_close(scores[name], alone, rtol=0, atol=1e-4)


def test_scores_of_a_batch_equal_those_of_each_user_alone(language_model):
    context = language_model.prefill(["apple, flat\n", "dog, thick black outline, black and white\n"])
    together = attribute_scores(language_model, context, SCENARIO.attributes)
    for row in range(2):
        alone = attribute_scores(language_model, context.select([row]), SCENARIO.attributes)
        for name, scores in alone.items():
            torch.testing.assert_close(scores[0], together[name][row], rtol=1e-4, atol=1e-4)


COLOUR = Keywords(("red", "gold", "teal"), (-1.0, -2.0, -9.0))
SHAPE = Keywords(("round", "Gold", "square"), (-3.0, -4.0, -5.0))
MOOD = Keywords(("calm",), (-2.5,))


@pytest.mark.parametrize(
    ("groups", "limit", "expected"),
    [
        ([COLOUR], 8, COLOUR.words),
        ([COLOUR, SHAPE, MOOD], 8, ("red", "round", "calm", "gold", "square", "teal")),
        ([COLOUR, SHAPE, MOOD], 5, ("red", "round", "calm", "gold", "square")),
        ([COLOUR, SHAPE, MOOD], 4, ("red", "round", "calm", "gold")),  # of the second turn the better word
        ([SHAPE, COLOUR, MOOD], 2, ("red", "calm")),  # less room than attributes: the best ones
        ([Keywords(("b", "a"), (-2.0, -1.0))], 8, ("a", "b")),
        ([Keywords(("red",), (-1.0,)), Keywords(("RED", "blue"), (-1.0, -7.0))], 8, ("red", "blue")),
        ([Keywords(()), MOOD], 8, ("calm",)),
        ([Keywords(("x", "y"))], 1, ("x",)),
        ([], 8, ()),
        ([COLOUR], 0, ()),
    ],
)
def test_merged_keywords(groups, limit, expected):
    merged = merge_keywords(groups, limit)
    assert merged.words == expected
    known = {word: score for group in groups[::-1] for word, score in scored(group)}
    assert merged.scores == tuple(known[word] for word in expected)


def test_merging_is_limited_to_eight():
    groups = [Keywords(tuple(f"{name}{n}" for n in range(5)), (-1.0,) * 5) for name in "abc"]
    assert merge_keywords(groups).words == ("a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2")


def test_what_is_liked_is_left_out_of_dislikes():
    assert without(SHAPE, ["ROUND", "red"]) == Keywords(("Gold", "square"), (-4.0, -5.0))
    assert without(Keywords(("a",)), ["b"]).words == ("a",)
    assert without(Keywords(("a",)), ["a"]) == Keywords(())
    assert without(Keywords(("a", "b"), (), ("long",)), ["a"]).dropped == ("long",)


def test_the_best_come_first_and_of_equals_the_earlier():
    assert rank(("a", "b", "c", "d"), (-2.0, -1.0, -1.0, -3.0), 3) == Keywords(("b", "c", "a"), (-1.0, -1.0, -2.0))


def test_target_keywords_keep_the_likeliest_of_the_items_own(language_model):
    items = [Item("a", "a", "red apple", keywords=("fruit", "red", "food", "red")), Item("b", "b", "dog")]
    apple, dog = target_keywords(language_model, items, SCENARIO, ranked=3, kept=2)
    context = language_model.prefill(["A sticker of: red apple"])
    options = ["fruit", "red", "food"]
    scores = score_shared_options(language_model, context, "\nIt shows:", [f" {word}" for word in options])[0]
    best = [options[i] for i in scores.argsort(descending=True)[:2]]
    assert apple.words == ("red apple", *best, "emoji")
    assert len(apple.scores) == len(apple.words)
    assert dog.words == ("dog", "emoji")


def test_keywords_beyond_those_asked_are_not_used(language_model):
    items = [Item("a", "a", "cat", keywords=("pet", "ghost", "heart"))]
    (words,) = target_keywords(language_model, items, replace(SCENARIO, scene_words=()), ranked=1, kept=5)
    assert words.words == ("cat", "pet")


def test_target_keywords_of_many_items_equal_those_of_each_alone(language_model):
    items = [
        Item("a", "a", "red apple", keywords=("fruit", "red", "a very long keyword of many tokens")),
        Item("b", "b", "dog"),
        Item("c", "c", "cat", keywords=("pet",)),
        Item("d", "d", "rocket", keywords=tuple(f"word {n}" for n in range(12))),
    ]
    together = target_keywords(language_model, items, SCENARIO)
    for item, keywords in zip(items, together, strict=True):
        (alone,) = target_keywords(language_model, [item], SCENARIO)
        assert alone.words == keywords.words
        torch.testing.assert_close(torch.tensor(alone.scores), torch.tensor(keywords.scores), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("a red rocket on a hill", "a red rocket on"),
        ("short", "short"),
        ("红色的火箭在山上的小木屋旁边飞过去", "红色的火箭在山上的小木屋旁边飞"),
    ],
)
def test_a_title_that_is_too_long_is_cut(title, shown, caplog):
    """Whole words remain, or signs where a title has no spaces; the words beside it are left out first."""
    fitted = Budget(len, 15).fit_target(Keywords((title, "space", "sticker"), (0.0, -1.0, 0.0)))
    assert fitted.words[0] == shown
    assert ("is cut" in caplog.text) == (shown != title)
    assert Budget(len, 15).fit_target(Keywords(())) == Keywords(())


def test_a_cut_title_is_what_can_be_read():
    budget = Budget(lambda text: len(text.split()) + 2, 5)
    assert [budget.cut(title) for title in ("a b c", "a b c d", "", "one")] == ["a b c", "a b c", "", "one"]


def test_the_share_of_keywords_that_are_read_is_by_weight():
    described = {"ground": "pink ground", "outline": "no outline"}
    counted = Keywords(("pink ground", "no outline", "flat"), (5.0, 0.5, 0.5))  # shares are weights
    assert share_read(counted, described) == pytest.approx(5.5 / 6)
    chosen = Keywords(("pink ground", "flat"), (math.log(0.3), 0.0))  # log-probabilities are not; 0 is certain
    assert share_read(chosen, described) == pytest.approx(0.3 / 1.3)
    assert share_read(Keywords(("flat",)), described) == 0.0
    assert share_read(Keywords(()), described) == 1.0
