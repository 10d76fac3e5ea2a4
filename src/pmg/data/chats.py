"""Chats from a file of JSON lines: examples whose behaviour is a conversation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pmg.configuration.instantiate import nearest
from pmg.domain import Example, Item, PmgError, Turn

KEYS = ("id", "user", "target", "turns", "labels")


def load_chats(file: str | Path) -> list[Example]:
    """Reads chats.

    Args:
        file: one JSON object a line, ``{"id", "target", "turns": [{"speaker", "text"}, …]}``, and if wanted
            ``"user"`` (the id otherwise) and ``"labels"``, words for evaluation by name.

    Returns:
        Examples with a conversation, without clicks and without a truth.

    Raises:
        PmgError: the file is missing, or one of its rows can't be used; names file and row.
    """
    path = Path(file)
    if not path.is_file():
        raise PmgError(f"{path} is missing; name a file of chats, one JSON object a line")
    examples: dict[str, Example] = {}
    for row, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            example = as_example(_parse(line))
        except PmgError as error:
            raise PmgError(f"{path}, row {row}: {error}") from None
        if example.id in examples:
            raise PmgError(f"{path}, row {row}: id '{example.id}' is used twice")
        examples[example.id] = example
    if not examples:
        raise PmgError(f"{path} holds no chats")
    return list(examples.values())


def as_example(row: Mapping[str, Any]) -> Example:
    """Returns one row as an example.

    Raises:
        PmgError: a key is unknown or missing, or a value isn't what it should be.
    """
    for key in row:
        if key not in KEYS:
            raise PmgError(f"unknown key '{key}'{nearest(key, KEYS)}")
    name, target = _text(row, "id"), _text(row, "target")
    user = _text(row, "user") if "user" in row else name
    labels = row.get("labels", {})
    if not isinstance(labels, dict):
        raise PmgError("'labels' must map names to words")
    item = Item(f"{name}-target", target, target)
    return Example(name, user, (), item, (), {key: str(word) for key, word in labels.items()}, tuple(_turns(row)))


def _turns(row: Mapping[str, Any]) -> Iterator[Turn]:
    turns = row.get("turns")
    if not isinstance(turns, list) or not turns:
        raise PmgError("'turns' must be a list of at least one message")
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict) or set(turn) != {"speaker", "text"}:
            raise PmgError(f"message {number} needs 'speaker' and 'text' and nothing else")
        try:
            yield Turn(_text(turn, "speaker"), _text(turn, "text"))
        except PmgError as error:
            raise PmgError(f"message {number}: {error}") from None


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise PmgError(f"'{key}' must be text that isn't empty, got {json.dumps(value)}")
    return value


def _parse(line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise PmgError(f"not JSON ({error.msg} at character {error.pos + 1})") from None
    if not isinstance(row, dict):
        raise PmgError("not a JSON object")
    return row
