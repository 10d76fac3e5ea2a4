"""Checks of a scenario's texts; each yields one message for each problem, with the key at fault."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from string import Formatter

from pmg.configuration.instantiate import nearest


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
    twice = sorted({option for option in options if options.count(option) > 1})
    if twice:
        yield f"{key} has options twice: {', '.join(twice)}"
    if any(not option.strip() or option != option.strip() for option in options):
        yield f"{key} has an option that is empty or starts or ends with a space"
    if len(options) == 1:
        yield f"{key} has one option, which is no choice; add another, or leave `options` out for free text"
