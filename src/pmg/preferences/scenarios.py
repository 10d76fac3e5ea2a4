"""Scenarios (prompt templates from the config) and the text of a user's interaction history."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from string import Formatter
from typing import Any

from pmg.configuration.instantiate import nearest
from pmg.configuration.ranges import Count, CountOrZero, Fraction
from pmg.domain import Example, Item, PmgError, Turn
from pmg.preferences.captioning import MetadataCaptioner
from pmg.preferences.target_writing import TargetWriting

LINE_PLACES = ("title", "topic", "keywords", "caption")
TURN_PLACES = ("speaker", "text")


@dataclass(frozen=True)
class Attribute:
    """A question to the language model with its possible answers.

    `question` is the text between history and answer, without a space at its end. `options`, which become keywords of
    the prompt, are empty for an open attribute, which needs a decoding that generates text; `example` is a typical
    answer in free text, e.g. ``"warm brown, cream"``.
    """

    question: str
    options: tuple[str, ...] = ()
    example: str = ""


@dataclass(frozen=True)
class Scenario:
    """Templates and attributes by which an interaction history becomes a prompt.

    PmgError if `lint` finds problems; one line names them all.

    Attributes:
        name: for records.
        template: the whole prompt, in which ``{history}`` precedes ``{instruction}`` and ``{instruction}`` is the end:
            the history is prefilled once, and every question and the soft tokens follow it.
        line: format of one item of the history, with ``{title}``, ``{topic}``, ``{keywords}`` and ``{caption}``.
        caption: format of an item's caption, with the names of its facts.
        max_items: number of latest items in the prompt.
        attributes: attributes of the taste, by name.
        target_prefix: text before a target's title, when its keywords are ranked.
        target_question: text between a target's title and a keyword.
        scene_words: words in the prompt of every image.
        negative_prompt: negative prompt of every image.
        max_keywords: number of an item's keywords in the prompt.
        dislike_template: as `template`, for disliked items. The same questions follow it, so it should describe a
            user of the opposite taste. Empty: dislikes are not used.
        chat_template: as `template`, with ``{conversation}`` for ``{history}``. Empty: no conversations.
        turn: format of one message, with ``{speaker}`` and ``{text}``.
        max_turns: number of latest messages in the prompt.
        target_attributes: attributes of the image that answers a conversation, by name; each question follows the
            earlier answers.
        target_writing: lets a language model that passes a probe write it in its own words. None: options are ranked.
        reference_messages: neutral messages, or as many of one kind as of another; an answer's score is reduced by
            its mean score after these. Empty: the most likely answer is chosen.
        match: cosine from which a sentence states the option that it resembles most, by the generator's text encoder;
            stated options take the place of decoded keywords (`pmg.preferences.stated`). None: they are not
            compared.
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
    match: Fraction | None = None
    target_writing: TargetWriting | None = None

    def __post_init__(self) -> None:
        if problems := lint(self):
            raise PmgError(f"scenario '{self.name}': {' · '.join(problems)}")


def build_attributes(specs: Mapping[str, Mapping[str, Any]]) -> dict[str, Attribute]:
    """Builds attributes that aren't null; PmgError for an unknown key, no question, or an empty list of options."""
    specs = {name: spec for name, spec in specs.items() if spec is not None}
    for name, spec in specs.items():
        if spec.keys() - {"question", "options", "example"} or not spec.get("question"):
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
    attributes: Mapping[str, Mapping[str, Any]] | None = None, scene_words: Sequence[str] = (),
    target_attributes: Mapping[str, Mapping[str, Any]] | None = None, reference_messages: Sequence[str] = (),
    **rest: Any,
) -> Scenario:  # fmt: skip
    """Builds a scenario from plain values; PmgError if a key is unknown or missing, or `lint` finds problems."""
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
    """Returns the prompt before the first question, up to ``{instruction}``: liked items, then the conversation.

    Captions are by the item's id; by default the scenario's, formatted with the item's facts. PmgError if history and
    conversation are empty, or the scenario has no template for the conversation.
    """
    parts = []
    if example.liked:
        parts.append(_format_items(scenario.template, example.liked, scenario, captions))
    if example.conversation:
        parts.append(verbalize_conversation(example.conversation, scenario))
    if not parts:
        what = f" ({len(example.disliked)} dislikes alone, no conversation)" if example.disliked else ""
        raise PmgError(f"example '{example.id}' (user '{example.user}') has an empty history: nothing to read{what}")
    return "".join(parts)


def verbalize_dislikes(example: Example, scenario: Scenario, captions: Mapping[str, str] | None = None) -> str | None:
    """Returns the prompt of disliked items, see `verbalize_history`; None without such items, or their template."""
    if not (example.disliked and scenario.dislike_template):
        return None
    return _format_items(scenario.dislike_template, example.disliked, scenario, captions)


def verbalize_conversation(conversation: Sequence[Turn], scenario: Scenario) -> str:
    """Returns the prompt with the latest messages, up to ``{instruction}``; PmgError without messages or template."""
    if not conversation:
        raise PmgError("the conversation has no messages")
    if not scenario.chat_template:
        raise PmgError(f"scenario '{scenario.name}' has no chat_template for conversations. Add one to its config.")
    # a line break inside a message could be mistaken for the next message
    turns = [(" ".join(turn.speaker.split()), " ".join(turn.text.split())) for turn in conversation]
    lines = [scenario.turn.format(speaker=who, text=text) for who, text in turns[-scenario.max_turns :]]
    return _before_instruction(scenario.chat_template).replace("{conversation}", "\n".join(lines))


def _format_items(template: str, items: Sequence[Item], scenario: Scenario, captions: Mapping[str, str] | None) -> str:
    latest = items[-scenario.max_items :]
    if captions is None:
        written = MetadataCaptioner(scenario.caption)(latest)
        captions = dict(zip((item.id for item in latest), written, strict=True))
    lines = [
        scenario.line.format(
            title=item.title,
            topic=item.topic,
            keywords=", ".join(item.keywords[: scenario.max_keywords]),
            caption=captions[item.id],
        )
        for item in latest
    ]
    return _before_instruction(template).replace("{history}", "\n".join(lines))


def _before_instruction(template: str) -> str:
    return template.partition("{instruction}")[0]


def lint(scenario: Scenario) -> list[str]:
    """Returns one message for each problem of a scenario, with the key at fault; none for a valid one."""
    problems = [
        *check_template("template", scenario.template, "history"),
        *check_placeholders("line", scenario.line, LINE_PLACES),
        *check_placeholders("turn", scenario.turn, TURN_PLACES),
        *check_placeholders("caption", scenario.caption),  # the captioner checks the names of facts
        *check_question("target_question", scenario.target_question),
        *_attributes("attributes", scenario.attributes),
        *_attributes("target_attributes", scenario.target_attributes),
    ]
    if scenario.dislike_template:
        problems += check_template("dislike_template", scenario.dislike_template, "history")
    if scenario.chat_template:
        problems += check_template("chat_template", scenario.chat_template, "conversation")
    if (writing := scenario.target_writing) is not None:
        problems += check_question("target_writing.question", writing.question)
        if not writing.probes or not all(writing.probes.values()):
            problems.append("target_writing.probes needs messages, each with words of which an answer has one")
    if scenario.caption and "{caption}" not in scenario.line:
        problems.append("the caption is never used: line has no {caption}")
    problems += [f"{name} must be at least 1" for name in ("max_items", "max_turns") if getattr(scenario, name) < 1]
    if scenario.match is not None and not 0 <= scenario.match <= 1:
        problems.append(f"match is a cosine of at least 0 and at most 1, or null; it is {scenario.match}")
    return problems


def _attributes(key: str, attributes: Mapping[str, Attribute]) -> Iterator[str]:
    for name, attribute in attributes.items():
        yield from check_question(f"{key}.{name}.question", attribute.question)
        yield from check_options(f"{key}.{name}", attribute.options)


def check_template(key: str, template: str, content: str) -> Iterator[str]:
    """Checks that the placeholder `content` comes first and once, and ``{instruction}`` last and once."""
    yield from check_placeholders(key, template, (content, "instruction"))
    place = f"{{{content}}}"
    counts = [template.count(word) for word in (place, "{instruction}")]
    if 0 in counts:
        yield f"{key} needs {place} and {{instruction}}"
    elif counts != [1, 1]:
        yield f"{key} may name {place} and {{instruction}} only once"
    elif template.find("{instruction}") < template.find(place) or not template.endswith("{instruction}"):
        yield (
            f"{key}: the instruction must come last, after the {content}, so that the {content} is read only once "
            "for all questions"
        )


def check_placeholders(key: str, text: str, names: Collection[str] | None = None) -> Iterator[str]:
    """Checks that placeholders are identifiers and, unless `names` is None, among `names`."""
    try:
        parts = [(name, spec, conversion) for _, name, spec, conversion in Formatter().parse(text) if name is not None]
    except ValueError as error:
        yield f"{key} has unpaired braces ({error})"
        return
    for name, spec, conversion in parts:
        if not name.isidentifier() or spec or conversion:
            yield f"{key}: placeholders are plain names, not {{{name}}}"
        elif names is not None and name not in names:
            listed = ", ".join(f"{{{word}}}" for word in names) or "none"
            yield f"{key} has no placeholder {{{name}}}{nearest(name, names)} (known: {listed})"


def check_question(key: str, question: str) -> Iterator[str]:
    """Checks that a question isn't empty and doesn't end with a space."""
    if not question.strip():
        yield f"{key} is empty"
    elif question[-1] == " ":  # tokenizers attach a space to the next word
        yield f"{key} ends with a space; the answer begins with one"


def check_options(key: str, options: tuple[str, ...]) -> Iterator[str]:
    """Checks that options are distinct, not empty, and at least two."""
    if twice := sorted({option for option in options if options.count(option) > 1}):
        yield f"{key} has options twice: {', '.join(twice)}"
    if any(not option.strip() or option != option.strip() for option in options):
        yield f"{key} has an option that is empty or starts or ends with a space"
    if len(options) == 1:
        yield f"{key} has one option, which is no choice; add another, or leave `options` out for free text"
