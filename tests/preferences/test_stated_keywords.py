"""What messages state: matched with options by the embedded sentence encoder, and laid over decoded keywords."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

import pmg
from pmg.cache import NoCache
from pmg.configuration.instantiate import instantiate
from pmg.domain import Example, Interaction, Item, Keywords, PmgError, Turn
from pmg.models.tiny_models import tiny_language_model
from pmg.preferences.extraction import PreferenceExtractor
from pmg.preferences.keyword_decoding import Choose
from pmg.preferences.keywords import NO_WORDS, Budget
from pmg.preferences.scenarios import Attribute
from pmg.preferences.stated import MessageMatcher, add_stated, split_sentences

ATTRIBUTES = {
    "colour": Attribute("Colour:", ("blue", "red")),
    "surface": Attribute("Surface:", ("pixel art", "paper grain")),
    "mood": Attribute("Mood:"),
}
DECODED = Keywords(("blue", "paper grain", "calm"), (-0.1, -0.2, -0.3))


@pytest.fixture(scope="module")
def text_encoder():
    return instantiate(pmg.compose("train", ["run_dir=unused"]).text_encoder)


@pytest.fixture(scope="module")
def matcher(text_encoder):
    return MessageMatcher(text_encoder, ATTRIBUTES, 0.4)


def test_sentences_state_the_options_that_they_resemble(matcher):
    said = [
        "I had noodles for lunch.",
        "I adore retro video game pixels. Everything crimson red!",
        "Pixel art, always.",
    ]
    assert matcher(said) == ["pixel art", "red"]
    assert matcher(["I had noodles for lunch."]) == matcher([]) == matcher(["\n"]) == []
    assert matcher([" ".join(["blue"] * 500)]) == ["blue"]  # longer than the encoder reads
    assert replace(matcher, least=1.0)(["Everything crimson red!"]) == []
    assert replace(matcher, least=1.0 - 1e-5)(["red"]) == ["red"]


def test_sentences_that_do_not_fit_are_halved():
    words = SimpleNamespace(count_tokens=lambda text: len(text.split()), max_length=3)
    letters = SimpleNamespace(count_tokens=len, max_length=7)
    assert split_sentences("One two. Three?\nFour five six seven", words) == [
        "One two.", "Three?", "Four five", "six seven",
    ]  # fmt: skip
    assert split_sentences("short incomprehensibilities", letters) == ["short"]


def test_stated_words_replace_decoded_ones_of_the_same_attribute():
    assert add_stated(DECODED, [], ATTRIBUTES) == DECODED
    assert add_stated(DECODED, ["red"], ATTRIBUTES) == Keywords(("red", "paper grain", "calm"), (0.0, -0.2, -0.3))
    assert add_stated(DECODED, ["red", "pixel art", "blue"], ATTRIBUTES).words == ("red", "pixel art", "blue", "calm")


def test_a_decodings_limit_holds(matcher):
    said = [["Everything crimson red!"]]
    for limit, expected in ((2, ("red", "paper grain")), (1, ("red",)), (8, ("red", "paper grain", "calm"))):
        assert matcher.overlay({"any": [DECODED]}, said, {"any": limit})["any"][0].words == expected


def test_users_without_items_have_stated_words_alone(matcher):
    said = [["Everything crimson red!"], ["Everything crimson red!"], [], []]
    found = matcher.overlay({"any": [DECODED, NO_WORDS, DECODED, NO_WORDS]}, said, {"any": 8})["any"]
    assert [words.words for words in found] == [("red", "paper grain", "calm"), ("red",), DECODED.words, ()]


def test_the_extractor_lays_them_over_its_keywords(compose, text_encoder):
    scenario = instantiate(compose("train", "scenario=look_chats").scenario)
    assert scenario.match is not None
    chat = (Turn("me", "I adore retro video game pixels."), Turn("assistant", "Red?"))
    choose, budget = Choose(), Budget(len, 1000)
    extractor = PreferenceExtractor(
        tiny_language_model(), scenario, NoCache(), "tiny", budget, text_encoder=text_encoder
    )
    example = Example("e", "u", (), Item("a", "a", "dog"), (), {}, chat)
    assert extractor.extract([example], {}, [choose]).keywords(choose)[0].words == ("pixel art",)
    both = replace(example, history=(Interaction(Item("b", "b", "cat")),))
    words = extractor.extract([both], {"b": "a caption"}, [choose]).keywords(choose)[0].words
    assert words[0] == "pixel art"
    assert len(words) == len(scenario.attributes)  # the others are decoded from what was clicked


def test_a_matcher_without_what_it_needs_is_refused(compose, text_encoder):
    with pytest.raises(PmgError, match="the scenario's attributes have none"):
        MessageMatcher(text_encoder, {"mood": ATTRIBUTES["mood"]}, 0.4)(["Hello."])
    scenario = instantiate(compose("train", "scenario=look_chats").scenario)
    with pytest.raises(PmgError, match="scenario 'look_chats' has match, which needs the generator's text encoder"):
        PreferenceExtractor(tiny_language_model(), scenario, NoCache(), "tiny", Budget(len, 1000))
    with pytest.raises(PmgError, match=r"match is a cosine of at least 0 and at most 1, or null; it is 1\.5"):
        replace(scenario, match=1.5)
