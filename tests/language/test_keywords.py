from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pmg.domain import Item
from pmg.language.keywords import attribute_scores, preference_keywords, target_keywords
from pmg.language.verbalize import Attribute, Scenario
from pmg.models.tiny import tiny_language_model

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


def test_preference_keywords_are_the_likeliest_options(language_model):
    context = language_model.prefill(["apple, flat\n", "dog, thick black\n", "cat\n"])
    scores = attribute_scores(language_model, context, SCENARIO)
    words = preference_keywords(language_model, context, SCENARIO)
    assert len(words) == 3
    for row, keywords in enumerate(words):
        for place, (name, attribute) in enumerate(SCENARIO.attributes.items()):
            best = int(scores[name][row].argmax())
            assert keywords.words[place] == attribute.options[best]
            assert keywords.scores[place] == pytest.approx(float(scores[name][row, best]))


def test_keywords_of_a_batch_equal_those_of_each_user_alone(language_model):
    context = language_model.prefill(["apple, flat\n", "dog, thick black outline, black and white\n"])
    together = attribute_scores(language_model, context, SCENARIO)
    for row in range(2):
        alone = attribute_scores(language_model, context.select([row]), SCENARIO)
        for name, scores in alone.items():
            torch.testing.assert_close(scores[0], together[name][row], rtol=1e-4, atol=1e-4)


def test_target_keywords_keep_the_likeliest_of_the_items_own(language_model):
    items = [Item("a", "a", "red apple", keywords=("fruit", "red", "food", "red")), Item("b", "b", "dog")]
    apple, dog = target_keywords(language_model, items, SCENARIO, asked=3, used=2)
    context = language_model.prefill(["A sticker of: red apple"])
    options = ["fruit", "red", "food"]
    scores = language_model.choose(context, "\nIt shows:", [f" {word}" for word in options])[0]
    best = [options[i] for i in scores.argsort(descending=True)[:2]]
    assert apple.words == ("red apple", *best, "emoji")
    assert len(apple.scores) == len(apple.words)
    assert dog.words == ("dog", "emoji")


def test_keywords_beyond_those_asked_are_not_used(language_model):
    items = [Item("a", "a", "cat", keywords=("pet", "ghost", "heart"))]
    (words,) = target_keywords(language_model, items, replace(SCENARIO, scene_words=()), asked=1, used=5)
    assert words.words == ("cat", "pet")
