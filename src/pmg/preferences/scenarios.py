"""Scenarios (the prompts, from configuration) and the texts of what a user did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from pmg.configuration.instantiate import nearest
from pmg.configuration.ranges import Count, CountOrZero
from pmg.domain import Example, Item, PmgError, Turn
from pmg.preferences.captioning import MetadataCaptioner
from pmg.preferences.prompt_checks import check_options, check_placeholders, check_question, check_template

LINE_PLACES = ("title", "topic", "keywords", "caption")
TURN_PLACES = ("speaker", "text")


@dataclass(frozen=True)
class Attribute:
    """One thing to ask about.

    Attributes:
        question: the text between history and answer; ends where the answer begins, without a space.
        options: the closed vocabulary of answers, as keywords read by the generator; empty for an open attribute,
            which free text alone can answer.
        example: an answer as it should look, for free text, e.g. ``"warm brown, cream"``.
    """

    question: str
    options: tuple[str, ...] = ()
    example: str = ""


@dataclass(frozen=True)
class Scenario:
    """How behaviour becomes text and what is asked of it.

    Attributes:
        name: for records.
        template: the whole prompt; ``{history}`` must stand before ``{instruction}``, which must end it: the
            history is read once, and every question and the soft tokens follow it.
        line: one item of the history, over ``{title}``, ``{topic}``, ``{keywords}`` and ``{caption}``.
        caption: an item's look in words, over the names of its facts.
        max_items: the latest so many items are told.
        attributes: what is asked about the taste, by name.
        target_prefix: text before a target's title, when its keywords are ranked.
        target_question: text between a target's title and a keyword.
        scene_words: words that every image of this scenario is drawn with.
        negative_prompt: what images should not look like.
        max_keywords: so many of an item's keywords are told.
        dislike_template: as `template`, for disliked items. The questions about the taste follow it too, so it
            should speak of somebody whose taste is the opposite. Empty: dislikes are not read.
        chat_template: as `template`, with ``{conversation}`` for ``{history}``. Empty: there are no chats here.
        turn: one message of a conversation, over ``{speaker}`` and ``{text}``.
        max_turns: the latest so many messages are told.
        target_attributes: what is asked about the picture that a conversation calls for, by name; earlier answers
            stand before later questions.
        reference_messages: what people say in all kinds of moods; answers to a conversation are compared with the
            average answer to these. Empty: the likeliest words win.

    Raises:
        PmgError: the linter finds problems; one line names them all.
    """

    name: str
    template: str
    line: str
    caption: str
    max_items: Count
    attributes: Mapping[str, Attribute]
    target_prefix: str
    target_question: str
    scene_words: tuple[str, ...] = ()
    negative_prompt: str = ""
    max_keywords: CountOrZero = 5
    dislike_template: str = ""
    chat_template: str = ""
    turn: str = "{speaker}: {text}"
    max_turns: Count = 12
    target_attributes: Mapping[str, Attribute] = field(default_factory=dict)
    reference_messages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = lint(self)
        if problems:
            raise PmgError(f"scenario '{self.name}': {' · '.join(problems)}")


def build_attributes(specs: Mapping[str, Mapping[str, Any]]) -> dict[str, Attribute]:
    """Makes attributes from plain values.

    Raises:
        PmgError: an attribute has an unknown key, no question, or an empty list of options.
    """
    known = ("question", "options", "example")
    for name, spec in specs.items():
        unknown = [key for key in spec if key not in known]
        if unknown or not spec.get("question"):
            raise PmgError(
                f"attribute '{name}' needs a question and may have options and an example; it has {[*spec]}"
            )
        if spec.get("options") == []:
            raise PmgError(f"attribute '{name}' has an empty list of options; leave the key out for free text")
    return {
        name: Attribute(spec["question"], tuple(spec.get("options") or ()), spec.get("example", ""))
        for name, spec in specs.items()
    }


def build_scenario(
    attributes: Mapping[str, Mapping[str, Any]] | None = None,
    scene_words: Sequence[str] = (),
    target_attributes: Mapping[str, Mapping[str, Any]] | None = None,
    reference_messages: Sequence[str] = (),
    **rest: Any,
) -> Scenario:
    """Makes a scenario from the plain values of a configuration file.

    Raises:
        PmgError: a key is unknown or missing, or the linter finds problems.
    """
    keys = {entry.name: entry.default for entry in fields(Scenario)}
    unknown = [f"no key '{key}'{nearest(key, keys)}" for key in rest if key not in keys]
    required = [key for key, default in keys.items() if default is MISSING and "attributes" not in key]
    missing = [f"'{key}' is missing" for key in required if key not in rest]
    if unknown or missing:
        raise PmgError(f"scenario '{rest.get('name', '?')}': {' · '.join(unknown + missing)}")
    return Scenario(
        attributes=build_attributes(attributes or {}),
        scene_words=tuple(scene_words),
        target_attributes=build_attributes(target_attributes or {}),
        reference_messages=tuple(reference_messages),
        **rest,
    )


def verbalize_history(example: Example, scenario: Scenario, captions: Mapping[str, str] | None = None) -> str:
    """Writes what a language model reads before anything is asked: liked items, then the conversation.

    Args:
        example: whose history and conversation.
        scenario: templates.
        captions: each item's look by its id; by default the scenario's caption, from the item's facts.

    Returns:
        The templates up to their instruction.

    Raises:
        PmgError: there is nothing to read, or the scenario has no template for the conversation.
    """
    parts = []
    if example.liked:
        parts.append(_tell_items(scenario.template, example.liked, scenario, captions))
    if example.conversation:
        parts.append(verbalize_conversation(example.conversation, scenario))
    if not parts:
        what = f" ({len(example.disliked)} dislikes alone, no conversation)" if example.disliked else ""
        raise PmgError(f"example '{example.id}' (user '{example.user}') has an empty history: nothing to read{what}")
    return "".join(parts)


def verbalize_dislikes(example: Example, scenario: Scenario, captions: Mapping[str, str] | None = None) -> str | None:
    """Writes what a language model reads before it is asked for negative keywords; arguments as above.

    Returns:
        The text, or None where nothing is disliked or the scenario does not read dislikes.
    """
    if not (example.disliked and scenario.dislike_template):
        return None
    return _tell_items(scenario.dislike_template, example.disliked, scenario, captions)


def verbalize_conversation(conversation: Sequence[Turn], scenario: Scenario) -> str:
    """Writes the latest messages, each behind its speaker, up to the instruction.

    Raises:
        PmgError: there are no messages, or the scenario has no template for them.
    """
    if not conversation:
        raise PmgError("a conversation without messages can't be read")
    if not scenario.chat_template:
        raise PmgError(f"scenario '{scenario.name}' has no chat_template to tell a conversation with; give it one")
    # a message on several lines would look like several messages, or like another speaker's
    turns = [(" ".join(turn.speaker.split()), " ".join(turn.text.split())) for turn in conversation]
    lines = [scenario.turn.format(speaker=who, text=text) for who, text in turns[-scenario.max_turns :]]
    return _head(scenario.chat_template).replace("{conversation}", "\n".join(lines))


def _tell_items(template: str, items: Sequence[Item], scenario: Scenario, captions: Mapping[str, str] | None) -> str:
    latest = items[-scenario.max_items :]
    if captions is None:
        written = MetadataCaptioner(scenario.caption)(latest)
        captions = {item.id: caption for item, caption in zip(latest, written, strict=True)}
    lines = [
        scenario.line.format(
            title=item.title,
            topic=item.topic,
            keywords=", ".join(item.keywords[: scenario.max_keywords]),
            caption=captions[item.id],
        )
        for item in latest
    ]
    return _head(template).replace("{history}", "\n".join(lines))


def _head(template: str) -> str:
    return template.partition("{instruction}")[0]


def lint(scenario: Scenario) -> list[str]:
    """Lists a scenario's problems, each in words that name the key; an empty list means that it can be used.

    Args:
        scenario: the scenario; may be one that its own constructor refuses.
    """
    problems = [
        *check_template("template", scenario.template, "history"),
        *check_placeholders("line", scenario.line, LINE_PLACES),
        *check_placeholders("turn", scenario.turn, TURN_PLACES),
        *check_placeholders("caption", scenario.caption),  # its facts are the data's: the captioner checks them
        *check_question("target_question", scenario.target_question),
        *_attributes("attributes", scenario.attributes),
        *_attributes("target_attributes", scenario.target_attributes),
    ]
    if scenario.dislike_template:
        problems += check_template("dislike_template", scenario.dislike_template, "history")
    if scenario.chat_template:
        problems += check_template("chat_template", scenario.chat_template, "conversation")
    if scenario.caption and "{caption}" not in scenario.line:
        problems.append("the caption is never told: line has no {caption}")
    problems += [f"{name} must be at least 1" for name in ("max_items", "max_turns") if getattr(scenario, name) < 1]
    return problems


def _attributes(key: str, attributes: Mapping[str, Attribute]) -> Iterator[str]:
    for name, attribute in attributes.items():
        yield from check_question(f"{key}.{name}.question", attribute.question)
        yield from check_options(f"{key}.{name}", attribute.options)
