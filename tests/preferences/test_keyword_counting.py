"""The counting baseline against histories counted by hand."""

from __future__ import annotations

from types import SimpleNamespace

from pmg.domain import Example, Interaction, Item
from pmg.preferences.keyword_sources import count_keywords
from pmg.preferences.scenarios import Attribute


def example(*interactions):
    return Example("e", "u", interactions, Item("t", "t", "t"), ())


def seen(number, liked=True, keywords=(), **facts):
    return Interaction(Item(f"i{number}", f"c{number}", "title", keywords, facts=facts), liked=liked)


ATTRIBUTES = SimpleNamespace(
    attributes={"colour": Attribute("colour", ("red", "blue")), "shading": Attribute("shading", ("flat", "soft"))},
    max_items=4,
)


def test_majority_of_each_attribute_that_the_items_know():
    history = [
        seen(0, colour="red", shading="flat"), seen(1, colour="red", shading="soft"), seen(2, colour="blue"),
        seen(3, colour="red", shading="soft"),
    ]  # fmt: skip
    words = count_keywords(example(*history), ATTRIBUTES)
    assert words.words == ("red", "soft")
    assert words.scores == (0.75, 0.5)


def test_disliked_items_do_not_count():
    history = [seen(0, colour="red"), seen(1, liked=False, colour="blue"), seen(2, liked=False, colour="blue")]
    assert count_keywords(example(*history), ATTRIBUTES).words == ("red",)


def test_only_the_items_of_a_prompt_are_counted():
    history = [*(seen(number, colour="blue") for number in range(5)), *(seen(5 + n, colour="red") for n in range(3))]
    words = count_keywords(example(*history), ATTRIBUTES)
    assert words.words == ("red",)
    assert words.scores == (0.75,)


def test_options_in_captions_are_counted_part_by_part():
    captions = {"i0": "colour: red, shading: soft", "i1": "red; soft", "i2": "dark red, flat", "i3": "red ground"}
    words = count_keywords(example(*map(seen, range(4))), ATTRIBUTES, captions)
    assert words.words == ("red", "soft")
    assert words.scores == (0.5, 0.5)


def test_items_without_known_attributes_give_their_most_frequent_keywords():
    history = [seen(0, keywords=("war", "love", "war")), seen(1, keywords=("love",)), seen(2, keywords=("sea",))]
    words = count_keywords(example(*history), ATTRIBUTES, at_most=2)
    assert words.words == ("love", "war")
    assert words.scores == (2 / 3, 1 / 3)


def test_missing_facts_are_no_taste():
    history = [seen(0, colour="unknown"), seen(1, colour="unknown"), seen(2, colour="blue", shading="unknown")]
    assert count_keywords(example(*history), ATTRIBUTES).words == ("blue",)
