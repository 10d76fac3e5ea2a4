"""Conversations as examples, from a JSON Lines file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from torch import Tensor

from pmg.configuration.instantiate import nearest
from pmg.data.dataset import Dataset, ItemRows, check_split
from pmg.data.published_files import read_lines
from pmg.domain import Example, Interaction, Item, PmgError, Turn

USER = "me"  # the user's name in prompts, as the shipped scenarios' questions expect it
Text = Annotated[str, StringConstraints(strict=True, pattern=r"\S")]
LONGEST_ID, LONGEST = 100, 4_000  # characters of an id, by which images are named, and of a message
EXPLANATIONS = {  # of pydantic's types of errors
    "missing": "is missing",
    "string_type": "must be text",
    "string_pattern_mismatch": "must be text that isn't empty",
    "string_too_long": f"is too long: an id has at most {LONGEST_ID} characters, a message {LONGEST}",
    "list_type": "must be a list",
    "too_short": "must have at least one message",
    "model_type": "must be an object",
    "dict_type": "must map names to words",
}


class Message(BaseModel):
    """One message of a row.

    `role` ``user`` is the person for whom images are generated; any other is allowed, e.g. ``assistant``. `name` is
    the writer's; None: the role.
    """

    model_config = ConfigDict(extra="forbid")
    role: Text
    content: Annotated[Text, Field(max_length=LONGEST)]
    name: Text | None = None

    def as_turn(self) -> Turn:
        """Returns the message as a turn, of `USER` for the user, else of the given name, or the role."""
        return Turn(USER if self.role == "user" else self.name or self.role, self.content)


class Click(BaseModel):
    """An item that a row's user liked or disliked before the conversation."""

    model_config = ConfigDict(extra="forbid")
    title: Text
    keywords: list[Text] = Field(default_factory=list)
    facts: dict[str, str] = Field(default_factory=dict)
    liked: bool = True


class Chat(BaseModel):
    """One row of a file: `messages`, and `history` before them, oldest first; `labels` are words for evaluation.

    Without a `target` to illustrate, the language model proposes one; without a `user` the row's unique id is used.
    """

    model_config = ConfigDict(extra="forbid")
    id: Annotated[Text, StringConstraints(max_length=LONGEST_ID)]
    messages: Annotated[list[Message], Field(min_length=1)]
    target: Text | None = None
    user: Text | None = None
    history: list[Click] = Field(default_factory=list)
    labels: dict[str, str] = Field(default_factory=dict)

    def as_example(self) -> Example:
        """Returns the conversation as an example without a truth; its target has no title if the row has none."""
        target = Item(f"{self.id}-target", self.target or f"{self.id}-target", self.target or "")
        turns = tuple(message.as_turn() for message in self.messages)
        history = []
        for place, click in enumerate(self.history):
            item = Item(f"{self.id}-{place}", click.title, click.title, tuple(click.keywords), "", click.facts)
            history.append(Interaction(item, "sent", place, click.liked))
        return Example(self.id, self.user or self.id, tuple(history), target, (), self.labels, turns, moment=self.id)


class NoImages(ItemRows):
    """The `ImageStore` of data without pictures."""

    missing = "conversations have no pictures: use captioner=metadata, and sources that read texts alone"
    size = 1

    def pixels(self, rows: Tensor) -> Tensor:
        """Raises PmgError, as `rows` does of any item."""
        raise PmgError(self.missing)


class ChatDataset(Dataset):
    """Conversations as users of the split ``test``: images are generated for them, and nothing is trained on them."""

    has_truth = False

    def __init__(self, file: str) -> None:
        self.file = file

    @property
    def images(self) -> NoImages:
        """No image of any item."""
        return NoImages(())

    def examples(self, split: str, users: int | None = None, targets: int | None = None) -> list[Example]:
        """Returns the conversations, user by user; arguments as `Dataset.examples`.

        PmgError if the file can't be used, has fewer users, or the split is not ``test``.
        """
        if split != "test":
            raise PmgError(
                f"data=chats has no split '{split}': it has no true images to train with. Train on other data, and "
                "generate with data=chats"
            )
        by_user: dict[str, list[Example]] = {}
        for example in load_chats(self.file):
            by_user.setdefault(example.user, []).append(example)
        check_split(split, users, {"test": len(by_user)})
        return [example for own in list(by_user.values())[:users] for example in own[:targets]]


def load_chats(file: str | Path) -> list[Example]:
    """Returns the conversations of a file as examples without a truth.

    A line is a JSON object ``{"id", "messages": [{"role", "content"}, …]}``, and optionally ``"target"``, ``"user"``,
    ``"history"`` and ``"labels"``, see `Chat`. PmgError if the file is missing, or one of its rows can't be used;
    names file and row.
    """
    path = Path(file)
    if not path.is_file():
        raise PmgError(f"{path} is missing; name a file of chats, one JSON object a line")
    examples: dict[str, Example] = {}
    for row, line in read_lines(path, "save it as UTF-8"):
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
    key, kind = ".".join(map(str, first["loc"])), first["type"]
    if kind == "json_invalid":
        return f"not JSON ({first['ctx']['error']})"
    if not key:
        return "not a JSON object"
    if kind == "extra_forbidden":
        whole: type[BaseModel] = Chat if error.title == Chat.__name__ else Message
        parts: dict[str, type[BaseModel]] = {"messages": Message, "history": Click} if whole is Chat else {}
        allowed = parts.get(str(first["loc"][0]), whole).model_fields
        return f"unknown key '{key}'{nearest(str(first['loc'][-1]), list(allowed))}"
    value = "" if kind == "missing" else f", got {first['input']!r}"
    return f"'{key}' {EXPLANATIONS.get(kind, first['msg'])}{value}"
