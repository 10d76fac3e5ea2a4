"""Wishes in messages: what the rule reads, which options are chosen, and what users are told."""

from __future__ import annotations

from collections import Counter

import pytest

import pmg
from pmg.configuration.instantiate import instantiate
from pmg.domain import Example, Interaction, Item, Keywords, PmgError
from pmg.methods.message_language import is_english
from pmg.methods.wish_rules import build_wish_rule
from pmg.preferences.keywords import Budget
from pmg.preferences.scenarios import Attribute
from pmg.preferences.wishes import Wishes, choose_options, count_shown

PALE, DARK = "pale pink ground", "dark pink ground"


@pytest.fixture(scope="module")
def read():
    """Returns a function from a user's messages to their wishes."""
    cfg = pmg.compose("generate", ["run_dir=unused"])
    rule, scenario, text_encoder = (instantiate(cfg[key]) for key in ("wishes", "scenario", "text_encoder"))

    def read(*messages):
        (found,) = rule([messages], scenario.attributes, text_encoder)
        return found

    return read


@pytest.mark.parametrize(
    ("message", "attribute", "fits"),
    [
        ("make the background pink", "ground", lambda option: "pink" in option),
        ("pink background, but keep the dots", "ground", lambda option: "pink" in option),
        ("thick outline", "outline", lambda option: option.startswith("thick")),
        ("no outline please", "outline", lambda option: option == "no outline"),
        ("could you leave the border off?", "outline", lambda option: option == "no outline"),
        ("I want it in green.", "colour", lambda option: option == "green"),
        ("more colourful!", "palette", lambda option: option == "vivid colours"),
        ("a drak backgroud plese", "ground", lambda option: option.split()[0] in ("dark", "black")),
        ("nothing pixelated please", "surface", lambda option: option != "pixel art"),
        ("I'm sick of the dots", "surface", lambda option: option != "halftone dots"),
        ("a green line around it on white background", "ground", lambda option: option == "white ground"),
    ],
)
def test_a_message_speaks_of_one_attribute_and_leaves_the_others(read, message, attribute, fits):
    found = read(message)
    others = {"outline"} if "line around" in message else set()
    assert found.allowed.keys() - others == {attribute}
    assert all(map(fits, found.allowed[attribute]))
    assert not found.note


@pytest.mark.parametrize("message", ["thanks, lovely", "smaller", "how do I send this to my mum?"])
def test_messages_without_a_wish_change_nothing_and_the_user_is_told(read, message):
    found = read(message)
    assert not found.allowed
    assert found.note == f'I found no wish in: "{message}"; try: dark ground, no outline'


@pytest.mark.parametrize("message", ["Bitte ein dunkler Hintergrund", "meer kleur graag", "colori più vivaci"])
def test_other_languages_are_said_to_be_unread(read, message):
    assert not is_english(message)
    assert read(message).note.startswith("I read English alone, and found no wish in")


def test_later_messages_replace_and_take_back_earlier_ones(read):
    assert set(read("pink background", "a black background").allowed["ground"]) == {"black ground"}
    kept = read("pink background", "no outline", "actually, change that back")
    assert set(kept.allowed) == {"ground"}  # the latest wish is taken back
    kept = read("pink background", "no outline", "put the background back as it was")
    assert set(kept.allowed) == {"outline"}
    assert set(read("no outline", "keep the background").allowed) == {"outline"}


def test_the_option_that_pictures_show_is_chosen_among_those_that_would_do():
    attributes = {"ground": Attribute("Ground:", (PALE, DARK)), "outline": Attribute("Outline:", ("no outline",))}
    items = [Item(str(number), "", "") for number in range(3)]
    example = Example("e", "u", tuple(map(Interaction, items)), items[0], ())
    captions = {"0": f"ground: {PALE}", "1": f"ground: {DARK}, no outline", "2": f"ground: {DARK}"}
    shown = count_shown(example, captions, attributes, latest=3)
    assert shown == {"ground": Counter({DARK: 2, PALE: 1}), "outline": Counter({"no outline": 1})}
    assert count_shown(example, captions, attributes, latest=1)["ground"] == Counter({DARK: 1})

    asked = Wishes({"ground": (PALE, DARK)})
    assert choose_options(asked, shown, attributes) == {"ground": DARK}
    assert choose_options(asked, {}, attributes) == {"ground": PALE}  # the first of equals
    assert choose_options(asked, {"ground": Counter({"dark green ground": 3})}, attributes) == {"ground": DARK}


def test_rules_refuse_unknown_attributes_and_expressions(read):
    words = {"names": ["mood"], "words": {"happy": ["happy"]}}
    cues = {"negations": [], "behind": [], "keeps": [], "before": [], "breaks": []}
    rule = build_wish_rule({"mood": words}, {}, cues)
    with pytest.raises(
        PmgError, match=r"wishes\.attributes: 'mood' is no attribute of the scenario, which has ground"
    ):
        rule([["happy"]], {"ground": Attribute("Ground:", (PALE,))}, None)
    with pytest.raises(PmgError, match=r"wishes\.attributes\.mood: '\(' is no regular expression"):
        build_wish_rule({"mood": {**words, "none": "("}}, {}, cues)


def test_a_note_survives_the_budget_of_a_text_encoder():
    words = Keywords(("red", "a very long one"), note="tell them")
    fitted = Budget(len, 5).fit(words)
    assert (fitted.words, fitted.dropped, fitted.note) == (("red",), ("a very long one",), "tell them")
