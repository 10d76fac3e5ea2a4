"""Scenarios (the prompts, from configuration) and the text of a user's history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pmg.domain import Example, PmgError
from pmg.language.captioning import MetadataCaptioner


@dataclass(frozen=True)
class Attribute:
    """One thing to ask about a user's taste.

    Attributes:
        question: the text between history and answer; ends where the answer begins, without a space.
        options: the closed vocabulary of answers, as keywords read by the generator.
    """

    question: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Scenario:
    """How behaviour becomes text and what is asked of it.

    Attributes:
        name: for records.
        template: the whole prompt; ``{history}`` must stand before ``{instruction}``, which must end it: the
            history is read once, and every question and the soft tokens follow it.
        line: one item of the history, over ``{title}``, ``{topic}`` and ``{caption}``.
        caption: an item's look in words, over the names of its facts.
        max_items: the latest so many items are told.
        attributes: what is asked about the taste, by name.
        target_prefix: text before a target's title, when its keywords are ranked.
        target_question: text between a target's title and a keyword.
        scene_words: words that every image of this scenario is drawn with.
        negative_prompt: what images should not look like.
    """

    name: str
    template: str
    line: str
    caption: str
    max_items: int
    attributes: Mapping[str, Attribute]
    target_prefix: str
    target_question: str
    scene_words: tuple[str, ...] = ()
    negative_prompt: str = ""

    def __post_init__(self) -> None:
        history, instruction = (self.template.find(place) for place in ("{history}", "{instruction}"))
        if history < 0 or instruction < 0:
            raise PmgError(f"scenario '{self.name}': the template needs {{history}} and {{instruction}}")
        if instruction < history or not self.template.endswith("{instruction}"):
            raise PmgError(
                f"scenario '{self.name}': the instruction must come last in the template, after the history, "
                "so that the history is read only once"
            )
        for name, attribute in self.attributes.items():
            if len(set(attribute.options)) < 2 or not attribute.question.strip():
                raise PmgError(f"scenario '{self.name}': attribute '{name}' needs a question and two options")


def build_scenario(attributes: Mapping[str, Mapping[str, Any]], scene_words: Sequence[str], **rest: Any) -> Scenario:
    """Makes a scenario from the plain values of a configuration file."""
    asked = {name: Attribute(spec["question"], tuple(spec["options"])) for name, spec in attributes.items()}
    return Scenario(attributes=asked, scene_words=tuple(scene_words), **rest)


def verbalize_history(example: Example, scenario: Scenario) -> str:
    """Writes what a language model reads before anything is asked: the template up to its instruction.

    Raises:
        PmgError: the history is empty.
    """
    if not example.history:
        raise PmgError(f"example '{example.id}' (user '{example.user}') has an empty history: nothing to read")
    caption = MetadataCaptioner(scenario.caption)
    items = [behavior.item for behavior in example.history[-scenario.max_items :]]
    lines = [scenario.line.format(title=item.title, topic=item.topic, caption=caption(item)) for item in items]
    return scenario.template.partition("{instruction}")[0].replace("{history}", "\n".join(lines))
