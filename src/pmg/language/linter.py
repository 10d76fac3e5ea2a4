"""Finds what is wrong with a scenario before anything is read by its prompts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from string import Formatter
from typing import TYPE_CHECKING

from pmg.config import nearest

if TYPE_CHECKING:
    from pmg.language.verbalize import Attribute, Scenario

LINE_PLACES = ("title", "topic", "keywords", "caption")
TURN_PLACES = ("speaker", "text")


def lint(scenario: Scenario) -> list[str]:
    """Lists a scenario's problems, each in words that name the key; an empty list means that it can be used.

    Args:
        scenario: the scenario; may be one that its own constructor refuses.
    """
    problems = [
        *_template("template", scenario.template, "history"),
        *_places("line", scenario.line, LINE_PLACES),
        *_places("turn", scenario.turn, TURN_PLACES),
        *_places("caption", scenario.caption),  # its facts are the data's: the captioner checks them
        *_question("target_question", scenario.target_question),
        *_attributes("attributes", scenario.attributes),
        *_attributes("target_attributes", scenario.target_attributes),
    ]
    if scenario.dislike_template:
        problems += _template("dislike_template", scenario.dislike_template, "history")
    if scenario.chat_template:
        problems += _template("chat_template", scenario.chat_template, "conversation")
    if scenario.caption and "{caption}" not in scenario.line:
        problems.append("the caption is never told: line has no {caption}")
    problems += [f"{name} must be at least 1" for name in ("max_items", "max_turns") if getattr(scenario, name) < 1]
    return problems


def _template(key: str, template: str, told: str) -> Iterator[str]:
    """What was done (`told`) must come first and once, the instruction last and once."""
    yield from _places(key, template, (told, "instruction"))
    place = f"{{{told}}}"
    counts = [template.count(word) for word in (place, "{instruction}")]
    if 0 in counts:
        yield f"{key} needs {place} and {{instruction}}"
    elif counts != [1, 1]:
        yield f"{key} may name {place} and {{instruction}} only once"
    elif template.find("{instruction}") < template.find(place) or not template.endswith("{instruction}"):
        yield (
            f"{key}: the instruction must come last, after the {told}, so that the {told} is read only once for all "
            "questions"
        )


def _places(key: str, text: str, known: Collection[str] | None = None) -> Iterator[str]:
    """Placeholders must be plain names, and known ones; None knows any."""
    try:
        parts = [part[1:] for part in Formatter().parse(text) if part[1] is not None]
    except ValueError as error:
        yield f"{key} has unpaired braces ({error})"
        return
    for name, spec, conversion in parts:
        if not name.isidentifier() or spec or conversion:
            yield f"{key}: placeholders are plain names, not {{{name}}}"
        elif known is not None and name not in known:
            listed = ", ".join(f"{{{word}}}" for word in known) or "none"
            yield f"{key} has no placeholder {{{name}}}{nearest(name, known)} (known: {listed})"


def _attributes(key: str, attributes: Mapping[str, Attribute]) -> Iterator[str]:
    for name, attribute in attributes.items():
        yield from _question(f"{key}.{name}.question", attribute.question)
        yield from _options(f"{key}.{name}", attribute.options)


def _question(key: str, question: str) -> Iterator[str]:
    if not question.strip():
        yield f"{key} is empty"
    elif question[-1] == " ":  # tokenizers join a space to the word that follows it
        yield f"{key} ends with a space; the answer brings its own"


def _options(key: str, options: tuple[str, ...]) -> Iterator[str]:
    twice = sorted({option for option in options if options.count(option) > 1})
    if twice:
        yield f"{key} has options twice: {', '.join(twice)}"
    if any(not option.strip() or option != option.strip() for option in options):
        yield f"{key} has an option that is empty or starts or ends with a space"
    if len(options) == 1:
        yield f"{key} has one option, which is no choice; add another, or leave `options` out for free text"
