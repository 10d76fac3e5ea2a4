"""Checks of the texts of a scenario; each yields one message for each problem, which names the key."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from string import Formatter

from pmg.configuration.instantiate import nearest


def check_template(key: str, template: str, told: str) -> Iterator[str]:
    """Checks that the placeholder `told` comes first and once, and the instruction last and once."""
    yield from check_placeholders(key, template, (told, "instruction"))
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


def check_placeholders(key: str, text: str, known: Collection[str] | None = None) -> Iterator[str]:
    """Checks that placeholders are plain names and among `known`; None allows any name."""
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


def check_question(key: str, question: str) -> Iterator[str]:
    """Checks that a question has words and does not end with a space."""
    if not question.strip():
        yield f"{key} is empty"
    elif question[-1] == " ":  # tokenizers join a space to the word that follows it
        yield f"{key} ends with a space; the answer brings its own"


def check_options(key: str, options: tuple[str, ...]) -> Iterator[str]:
    """Checks that options are different, have words, and are at least two."""
    twice = sorted({option for option in options if options.count(option) > 1})
    if twice:
        yield f"{key} has options twice: {', '.join(twice)}"
    if any(not option.strip() or option != option.strip() for option in options):
        yield f"{key} has an option that is empty or starts or ends with a space"
    if len(options) == 1:
        yield f"{key} has one option, which is no choice; add another, or leave `options` out for free text"
