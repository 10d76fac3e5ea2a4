"""Conversations as examples, from a JSON Lines file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from pmg.configuration.instantiate import nearest
from pmg.domain import Example, Item, PmgError, Turn

Text = Annotated[str, StringConstraints(strict=True, pattern=r"\S")]
EXPLANATIONS = {  # of pydantic's types of errors
    "missing": "is missing",
    "string_type": "must be text",
    "string_pattern_mismatch": "must be text that isn't empty",
    "list_type": "must be a list",
    "too_short": "must have at least one message",
    "model_type": "must be an object with 'speaker' and 'text'",
    "dict_type": "must map names to words",
}


class ChatTurn(BaseModel):
    """One message of a row."""

    model_config = ConfigDict(extra="forbid")
    speaker: Text
    text: Text


class Chat(BaseModel):
    """One row of a file.

    Attributes:
        id: unique in the file.
        target: what the conversation is to be illustrated with.
        turns: the messages, oldest first.
        user: the user's id; None: that of the row.
        labels: words for evaluation, by name.
    """

    model_config = ConfigDict(extra="forbid")
    id: Text
    target: Text
    turns: Annotated[list[ChatTurn], Field(min_length=1)]
    user: Text | None = None
    labels: dict[str, str] = Field(default_factory=dict)

    def as_example(self) -> Example:
        """Returns the conversation as an example without interactions and without a truth."""
        item = Item(f"{self.id}-target", self.target, self.target)
        turns = tuple(Turn(turn.speaker, turn.text) for turn in self.turns)
        return Example(self.id, self.user or self.id, (), item, (), self.labels, turns)


def load_chats(file: str | Path) -> list[Example]:
    """Reads conversations.

    Args:
        file: one JSON object a line, ``{"id", "target", "turns": [{"speaker", "text"}, …]}``, and optionally
            ``"user"`` and ``"labels"``, see `Chat`.

    Returns:
        Examples with a conversation, without interactions and without a truth.

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
            example = Chat.model_validate_json(line).as_example()
        except ValidationError as error:
            raise PmgError(f"{path}, row {row}: {explain(error)}") from None
        if example.id in examples:
            raise PmgError(f"{path}, row {row}: id '{example.id}' is used twice")
        examples[example.id] = example
    if not examples:
        raise PmgError(f"{path} holds no chats")
    return list(examples.values())


def explain(error: ValidationError) -> str:
    """Returns the first error of a row in one line: the key, what is wrong, and the value."""
    first = error.errors(include_url=False)[0]
    key, kind = ".".join(str(part) for part in first["loc"]), first["type"]
    if kind == "json_invalid":
        return f"not JSON ({first['ctx']['error']})"
    if not key:
        return "not a JSON object"
    if kind == "extra_forbidden":
        allowed = (ChatTurn if len(first["loc"]) > 1 else Chat).model_fields
        return f"unknown key '{key}'{nearest(str(first['loc'][-1]), list(allowed))}"
    value = "" if kind == "missing" else f", got {first['input']!r}"
    return f"'{key}' {EXPLANATIONS.get(kind, first['msg'])}{value}"
