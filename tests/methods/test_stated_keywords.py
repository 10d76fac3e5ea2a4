"""What messages state as keywords: the latest of each attribute."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

import pmg
from pmg.cache import NoCache
from pmg.configuration.instantiate import instantiate
from pmg.domain import Example, Item, PmgError, Turn
from pmg.methods.stated_keywords import StatedKeywords
from pmg.models.tiny_models import tiny_language_model
from pmg.preferences.extraction import PreferenceExtractor
from pmg.preferences.keywords import Budget
from pmg.preferences.scenarios import Attribute

ATTRIBUTES = {
    "colour": Attribute("Colour:", ("blue", "red")),
    "surface": Attribute("Surface:", ("pixel art", "paper grain")),
}


@pytest.fixture(scope="module")
def text_encoder(root):
    return instantiate(pmg.compose("train", ["run_dir=unused"]).text_encoder)


def test_the_latest_statement_about_an_attribute_is_a_keyword(text_encoder):
    scenario = replace(
        instantiate(pmg.compose("train", ["run_dir=unused"]).scenario), attributes=ATTRIBUTES, match=0.4
    )
    budget = Budget(text_encoder.count_tokens, text_encoder.max_length)
    said = ["Everything crimson red!", "I adore retro video game pixels.", "I had noodles.", "Blue, please."]
    examples = [Example("a", "a", (), Item("x", "x", "x"), (), conversation=tuple(Turn("me", text) for text in own))
                for own in (said, said[::-1], [])]  # fmt: skip

    def state(scenario):
        extractor = PreferenceExtractor(
            tiny_language_model(), scenario, NoCache(), "", budget, text_encoder=text_encoder
        )
        return StatedKeywords()(SimpleNamespace(extractor=extractor, examples=examples))

    assert [set(one.words) for one in state(scenario)] == [{"blue", "pixel art"}, {"red", "pixel art"}, set()]
    with pytest.raises(PmgError, match=r"stated keywords need the cosine `match`, which the scenario '\w+' lacks"):
        state(replace(scenario, match=None))
