from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pmg.domain import Behavior, Example, Item, PmgError
from pmg.language.captioning import MetadataCaptioner
from pmg.language.verbalize import Attribute, Scenario, build_scenario, verbalize_history

SCENARIO = Scenario(
    name="test",
    template="Sent:\n{history}\n{instruction}",
    line="{title} [{caption}]",
    caption="{pack}, {shading}",
    max_items=2,
    attributes={"shading": Attribute("Their favourite shading is", ("flat", "soft"))},
    target_prefix="A sticker of: ",
    target_question="\nIt shows:",
)


def item(title: str, **facts: str) -> Item:
    return Item(title, title, title, facts={"pack": "Noto", "shading": "flat", **facts})


def example(*items: Item) -> Example:
    return Example("e1", "u1", tuple(Behavior(one) for one in items), item("target"), ())


def test_history_is_told_in_order_latest_items_only():
    text = verbalize_history(example(item("apple"), item("dog"), item("cat", shading="soft")), SCENARIO)
    assert text == "Sent:\ndog [Noto, flat]\ncat [Noto, soft]\n"


def test_braces_in_a_title_are_plain_text():
    assert "{instruction}" in verbalize_history(example(item("{instruction}")), SCENARIO)


def test_empty_history_names_the_example():
    with pytest.raises(PmgError, match=r"example 'e1' \(user 'u1'\) has an empty history"):
        verbalize_history(example(), SCENARIO)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{instruction}\n{history}", "instruction must come last"),
        ("{history}\n{instruction} please", "instruction must come last"),
        ("{instruction}", "needs {history} and {instruction}"),
        ("{history}", "needs {history} and {instruction}"),
    ],
)
def test_templates_that_read_the_history_twice_are_refused(template, message):
    with pytest.raises(PmgError, match=message):
        replace(SCENARIO, template=template)


def test_attribute_without_a_choice_is_refused():
    with pytest.raises(PmgError, match="attribute 'shading' needs a question and two options"):
        replace(SCENARIO, attributes={"shading": Attribute("It is", ("flat",))})


def test_missing_fact_names_item_and_fact():
    with pytest.raises(PmgError, match="item 'apple' has no fact 'artist'"):
        MetadataCaptioner("{artist}")(item("apple"))


def test_shipped_scenario_fits_the_facts_of_the_catalogue():
    conf = Path(__file__).parents[2] / "conf"
    spec = yaml.safe_load((conf / "scenario/emoji.yaml").read_text())
    assert spec.pop("_target_") == "pmg.language.verbalize.build_scenario"
    scenario = build_scenario(**spec)
    styles = yaml.safe_load((conf / "data/emoji.yaml").read_text())["styles"]
    for facts in styles.values():
        assert verbalize_history(example(item("apple", **facts)), scenario)
        for name, attribute in scenario.attributes.items():
            assert facts[name] in attribute.options
