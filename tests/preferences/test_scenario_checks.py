"""Scenarios that can't work are refused, with the key and the nearest right word; the shipped ones are clean."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from pmg.configuration.instantiate import instantiate
from pmg.domain import PmgError
from pmg.preferences.scenarios import Attribute, Scenario, lint

CONF = Path(__file__).parents[2] / "conf"
SHIPPED = sorted(path.stem for path in (CONF / "scenario").glob("*.yaml"))
FACTS = {"pack": "Noto", "colour": "full colour", "outline": "no outline", "shading": "flat"}


def make(**changes) -> Scenario:
    values = {
        "name": "test", "template": "Sent:\n{history}\n{instruction}", "line": "{title}: {caption}",
        "caption": "{pack}", "max_items": 2, "attributes": {"a": Attribute("Their taste is", ("flat", "soft"))},
        "target_prefix": "A sticker of: ", "target_question": "\nIt shows:",
    }  # fmt: skip
    return Scenario(**{**values, **changes})


def attribute(question: str = "Their taste is", *options: str) -> dict:
    return {"attributes": {"a": Attribute(question, options)}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"template": "{instruction}\n{history}"}, "template: the instruction must come last"),
        ({"template": "{history}\n{instruction} please"}, "template: the instruction must come last"),
        ({"template": "{instruction}"}, "template needs {history} and {instruction}"),
        ({"template": "{history}"}, "template needs {history} and {instruction}"),
        ({"template": "{history}{history}{instruction}"}, "template may name {history} and {instruction} only once"),
        ({"template": "{histroy}\n{instruction}"}, "template has no placeholder {histroy}; did you mean 'history'?"),
        ({"dislike_template": "{instruction}{history}"}, "dislike_template: the instruction must come last"),
        ({"chat_template": "{history}\n{instruction}"}, "chat_template needs {conversation} and {instruction}"),
        ({"line": "{titel}: {caption}"}, "line has no placeholder {titel}; did you mean 'title'?"),
        ({"line": "{title}: {caption"}, "line has unpaired braces"),
        ({"line": "{}: {caption}"}, "line: placeholders are plain names, not {}"),
        ({"line": "{title:>9}: {caption}"}, "line: placeholders are plain names, not {title}"),
        ({"line": "{title}"}, "the caption is never used"),
        ({"turn": "{speeker}: {text}"}, "turn has no placeholder {speeker}; did you mean 'speaker'?"),
        ({"caption": "{pack.name}"}, "caption: placeholders are plain names, not {pack.name}"),
        ({"target_question": "\nIt shows: "}, "target_question ends with a space"),
        ({"max_items": 0}, "max_items must be at least 1"),
        ({"max_turns": 0}, "max_turns must be at least 1"),
        (attribute("Their taste is "), "attributes.a.question ends with a space"),
        (attribute(" "), "attributes.a.question is empty"),
        (attribute("Is", "flat"), "attributes.a has one option"),
        (attribute("Is", "flat", "soft", "flat"), "attributes.a has options twice: flat"),
        (attribute("Is", "flat", ""), "attributes.a has an option that is empty"),
        (attribute("Is", "flat", " soft"), "attributes.a has an option that is empty or starts or ends with a space"),
        ({"target_attributes": {"b": Attribute("Is", ("x",))}}, "target_attributes.b has one option"),
    ],
)
def test_what_cannot_work_is_refused(changes, message):
    with pytest.raises(PmgError) as caught:
        make(**changes)
    assert message in str(caught.value)
    assert str(caught.value).startswith("scenario 'test': ")


def test_all_problems_come_in_one_line():
    with pytest.raises(PmgError) as caught:
        make(line="{titel} {caption}", max_items=0, **attribute("Is ", "flat"))
    assert str(caught.value).count(" · ") == 3
    assert "\n" not in str(caught.value)


def test_attribute_without_options_is_open():
    assert lint(make(**attribute("Their favourite actors are"))) == []


def load(name: str) -> Scenario:
    return instantiate(OmegaConf.create(read(name)))


def read(name: str) -> dict:
    """Returns the values of a file, over those of its defaults."""
    spec = yaml.safe_load((CONF / f"scenario/{name}.yaml").read_text())
    values: dict = {}
    for base in spec.pop("defaults", []):
        values |= read(base)
    return values | spec


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_scenario_is_clean(name):
    scenario = load(name)
    assert lint(scenario) == []
    assert scenario.name == name
    assert all(attribute.example for attribute in scenario.attributes.values())
    assert scenario.dislike_template
    assert scenario.scene_words


def test_shipped_scenarios_ask_what_the_method_names():
    asked = {name: set(load(name).attributes) for name in SHIPPED}
    assert asked["movie_poster"] == {"country", "style", "genre", "era", "actor", "director"}
    assert asked["costume"] == {"color", "material", "season", "style", "elements"}
    assert asked["chat_sticker"] == set(load("chat_sticker").target_attributes) == {"emotion", "expression", "posture"}
    open_ones = {name for name, attribute in load("movie_poster").attributes.items() if not attribute.options}
    assert open_ones == {"actor", "director"}
