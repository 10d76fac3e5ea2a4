"""Templates to texts: likes, dislikes, conversations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pmg.domain import Example, Interaction, Item, PmgError, Turn
from pmg.preferences.scenarios import (
    Attribute,
    Scenario,
    build_scenario,
    verbalize_conversation,
    verbalize_dislikes,
    verbalize_history,
)

SCENARIO = Scenario(
    name="test",
    template="Sent:\n{history}\n{instruction}",
    line="{title} [{caption}]",
    caption="{pack}, {shading}",
    max_items=2,
    attributes={"shading": Attribute("Their favourite shading is", ("flat", "soft"))},
    target_prefix="A sticker of: ",
    target_question="\nIt shows:",
    dislike_template="Others sent:\n{history}\n{instruction}",
    chat_template="A chat:\n{conversation}\n{instruction}",
    max_turns=2,
)
CHAT = (Turn("Lena", "Hi"), Turn("me", "I lost\nLena: my keys"), Turn("Lena", "{instruction} {history}"))
TOLD = "A chat:\nme: I lost Lena: my keys\nLena: {instruction} {history}\n"


def item(title: str, **facts: str) -> Item:
    return Item(title, title, title, ("k1", "k2"), facts={"pack": "Noto", "shading": "flat", **facts})


def example(*items: Item, disliked: tuple[Item, ...] = (), conversation: tuple[Turn, ...] = ()) -> Example:
    history = [*(Interaction(one) for one in items), *(Interaction(one, "hidden", liked=False) for one in disliked)]
    return Example("e1", "u1", tuple(history), item("target"), (), conversation=conversation)


def test_history_is_told_in_order_latest_items_only():
    text = verbalize_history(example(item("apple"), item("dog"), item("cat", shading="soft")), SCENARIO)
    assert text == "Sent:\ndog [Noto, flat]\ncat [Noto, soft]\n"


def test_braces_in_a_title_are_plain_text():
    assert "{instruction}" in verbalize_history(example(item("{instruction}")), SCENARIO)


def test_keywords_of_an_item_can_be_told():
    scenario = replace(SCENARIO, line="{title}: {keywords}", caption="", max_keywords=1)
    assert verbalize_history(example(item("apple")), scenario) == "Sent:\napple: k1\n"


def test_captions_from_elsewhere_take_the_place_of_facts():
    text = verbalize_history(example(item("apple")), SCENARIO, {"apple": "a round fruit"})
    assert text == "Sent:\napple [a round fruit]\n"


def test_dislikes_are_a_text_of_their_own_and_leave_the_history_as_it_is():
    without = example(item("apple"), item("dog"))
    mixed = replace(without, history=(*without.history, Interaction(item("ghost", shading="soft"), liked=False)))
    assert verbalize_history(mixed, SCENARIO) == verbalize_history(without, SCENARIO)
    assert verbalize_dislikes(mixed, SCENARIO) == "Others sent:\nghost [Noto, soft]\n"
    assert verbalize_dislikes(mixed, SCENARIO, {"ghost": "pale"}) == "Others sent:\nghost [pale]\n"
    assert verbalize_dislikes(without, SCENARIO) is None
    assert verbalize_dislikes(mixed, replace(SCENARIO, dislike_template="")) is None


def test_only_the_latest_dislikes_are_told():
    many = example(disliked=tuple(item(name) for name in ("a", "b", "c")))
    assert verbalize_dislikes(many, SCENARIO) == "Others sent:\nb [Noto, flat]\nc [Noto, flat]\n"


def test_chat_is_told_alone_and_after_clicks_latest_turns_each_on_one_line():
    assert verbalize_conversation(CHAT, SCENARIO) == TOLD
    assert verbalize_history(example(conversation=CHAT), SCENARIO) == TOLD
    beside = verbalize_history(example(item("apple"), conversation=CHAT), SCENARIO)
    assert beside == "Sent:\napple [Noto, flat]\n" + TOLD


def test_empty_history_names_the_example():
    with pytest.raises(PmgError, match=r"example 'e1' \(user 'u1'\) has an empty history"):
        verbalize_history(example(), SCENARIO)
    with pytest.raises(PmgError, match=r"has an empty history: nothing to read \(1 dislikes alone"):
        verbalize_history(example(disliked=(item("ghost"),)), SCENARIO)


def test_empty_conversation_or_missing_template_is_refused():
    with pytest.raises(PmgError, match="scenario 'test' has no chat_template"):
        verbalize_history(example(item("apple"), conversation=CHAT), replace(SCENARIO, chat_template=""))
    with pytest.raises(PmgError, match="has no messages"):
        verbalize_conversation((), SCENARIO)


PLAIN = {
    "name": "plain", "template": "{history}{instruction}", "line": "{title}", "caption": "", "max_items": 3,
    "target_prefix": "A ", "target_question": ":",
}  # fmt: skip


def test_scenario_is_built_from_plain_values():
    spec = {"question": "Colour:", "options": ["red", "blue"], "example": "red"}
    scenario = build_scenario({"colour": spec, "hero": {"question": "Hero:"}}, ["poster"], {"mood": spec}, **PLAIN)
    assert scenario.attributes["colour"] == Attribute("Colour:", ("red", "blue"), "red")
    assert scenario.attributes["hero"].options == ()
    assert scenario.target_attributes["mood"].options == ("red", "blue")
    assert scenario.scene_words == ("poster",)


@pytest.mark.parametrize(
    ("attribute", "rest", "message"),
    [
        ({"question": "Q:"}, {"templat": "x"}, "no key 'templat'; did you mean 'template'"),
        ({"question": "Q:"}, {"line": None}, "'line' is missing"),
        ({"question": "Q:", "options": []}, {}, "attribute 'colour' has an empty list of options"),
        ({"question": "Q:", "option": ["a"]}, {}, "attribute 'colour' needs a question"),
        ({"options": ["a", "b"]}, {}, "attribute 'colour' needs a question"),
    ],
)
def test_wrong_keys_are_named(attribute, rest, message):
    spec = {key: value for key, value in {**PLAIN, **rest}.items() if value is not None}
    with pytest.raises(PmgError, match=message):
        build_scenario({"colour": attribute}, **spec)
