"""Arguments of the inference pipeline: items, users, targets, seeds and guidance, checked by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from numbers import Integral, Real
from typing import Any

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from pmg.configuration.instantiate import nearest
from pmg.data.chats import Message, explain
from pmg.data.dataset import ImageStore
from pmg.domain import Item, PmgError, Turn
from pmg.generation.guidance import Scales
from pmg.models.vision.pictures import to_picture

ItemLike = Item | Mapping[str, Any] | str
History = Sequence[ItemLike]
Conversation = Sequence[Mapping[str, str] | Sequence[str]]
Pictured = tuple[Item, Image.Image | None]
PAIR = ("role", "content")  # of a message


class _ItemFields(BaseModel):
    """What a mapping may give of an item."""

    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)

    title: str
    id: str | None = None
    concept: str | None = None
    keywords: Sequence[str] = ()
    topic: str = ""
    facts: Mapping[str, str | int | float] = {}
    image: Image.Image | None = None


FIELDS = ", ".join(_ItemFields.model_fields)


def with_pictures(items: Sequence[Item], images: ImageStore) -> list[dict[str, Any]]:
    """Returns items of a data set with their pictures, as arguments of an inference pipeline; facts are left out."""
    names = ("title", "id", "concept", "keywords", "topic")
    pictures = map(to_picture, images.pixels(images.rows(items)))
    return [
        {**{name: getattr(item, name) for name in names}, "image": picture}
        for item, picture in zip(items, pictures, strict=True)
    ]


@dataclass(frozen=True)
class UserInput:
    """One user's part of a call: items with their pictures, and messages, oldest first."""

    liked: Sequence[Pictured]
    disliked: Sequence[Pictured]
    conversation: tuple[Turn, ...]


@dataclass(frozen=True)
class CallReader:
    """Reads the users and the targets of calls."""

    facts: Sequence[str] | None  # names of those that captions are formatted with; None: facts are not checked

    def users(
        self, history: History | Sequence[History], dislikes: History | Sequence[History],
        conversation: Conversation | Sequence[Conversation],
    ) -> tuple[list[UserInput], bool]:  # fmt: skip
        """Returns the users of a call, and whether it is a batch; PmgError if numbers differ, or an entry is wrong."""
        match history:
            case [[*_], *_]:
                columns: list[Sequence[Any]] = [history]
            case [*_]:
                return [self._user("", history, dislikes, conversation)], False
            case _:
                raise PmgError(f"history must be a list of items, or a list of such lists: {history!r:.80}")
        for name, value in (("dislikes", dislikes), ("conversation", conversation)):
            columns.append(value or [()] * len(history))
            if len(columns[-1]) != len(history):
                raise PmgError(
                    f"{name} must have one list for each of the {len(history)} histories, and it has {len(value)}"
                )
        return [self._user(f"[{row}]", *parts) for row, parts in enumerate(zip(*columns, strict=True))], True

    def targets(
        self, target: ItemLike | Sequence[ItemLike] | None, users: int | None = None
    ) -> tuple[list[Item], bool]:  # fmt: skip
        """Returns the target of each image prompt, and whether they were given as a list.

        `target` is one for all `users`, or one for each of them; for one history (None), any number; None is an item
        without a title, which the conversation replaces. PmgError if a target is no item, has an empty title, or their
        number isn't that of the users.
        """
        match target:
            case None:
                return [Item("target", "", "")] * (users or 1), False
            case []:
                raise PmgError("target is an empty list. Give a title, e.g. 'rocket', or one for each history.")
            case [*given]:
                if users not in (None, len(given)):
                    raise PmgError(f"target has {len(given)} entries for {users} histories: give one for each, or one")
                return [self._item(f"target[{row}]", one, "target")[0] for row, one in enumerate(given)], True
        return [self._item("target", target, "target")[0]] * (users or 1), False

    def user(
        self, history: History, target: ItemLike | None, dislikes: History, conversation: Conversation
    ) -> tuple[UserInput, Item]:
        """Returns the user and target of one image, see `users` and `targets`; PmgError also for several of either."""
        users, batched = self.users(history, dislikes, conversation)
        targets, listed = self.targets(target)
        if batched or listed:
            raise PmgError("history and target must be those of one image: a list of items, and an item")
        return users[0], targets[0]

    def _user(self, index: str, history: Any, dislikes: Any, conversation: Any) -> UserInput:
        """Returns one user's part of a call; `index` is that in a batch, for messages."""
        return UserInput(
            self._history(f"history{index}", history, f"liked{index}"),
            self._history(f"dislikes{index}", dislikes, f"disliked{index}"),
            _read_turns(f"conversation{index}", conversation),
        )

    def _history(self, argument: str, values: Any, prefix: str) -> list[Pictured]:
        """Returns the items of a history, which have the facts that captions are formatted with."""
        _check_list(argument, values)
        history = [self._item(f"{argument}[{row}]", value, f"{prefix}-{row}") for row, value in enumerate(values)]
        for row, (item, _) in enumerate(history):
            if missing := [name for name in self.facts or () if name not in item.facts]:
                hint, present = nearest(missing[0], item.facts) or ".", ", ".join(item.facts) or "none"
                raise PmgError(
                    f"{argument}[{row}] ('{item.title}') has no fact '{missing[0]}'{hint} This pipeline describes "
                    f"items of a history by {', '.join(self.facts or ())}; this one has {present}. Give a mapping "
                    "with title and facts."
                )
        return history

    def _item(self, argument: str, value: Any, default_id: str) -> Pictured:
        """Returns an item and its picture, if any, from an `Item`, its title, or a mapping of fields.

        PmgError if `value` is no item, a field is unknown or of another type, the title is empty, or a mapping has a
        fact that `facts` doesn't list.
        """
        match value:
            case Item():
                item, picture = value, None
            case str():
                item, picture = Item(default_id, value, value), None
            case Mapping():
                item, picture = self._from_mapping(argument, value, default_id)
            case _:
                raise PmgError(f"{argument} is no item: {value!r:.80}. Give a title, or a mapping with {FIELDS}.")
        if not item.title.strip():
            raise PmgError(f"{argument} has an empty title. Give a title, e.g. 'rocket'.")
        return item, picture

    def _from_mapping(self, argument: str, value: Mapping[str, Any], default_id: str) -> Pictured:
        try:
            given = _ItemFields.model_validate(dict(value))
        except ValidationError as error:
            raise PmgError(_explain(argument, error)) from None
        if unknown := [name for name in given.facts if self.facts is not None and name not in self.facts]:
            hint, allowed = nearest(unknown[0], self.facts or ()) or ".", ", ".join(self.facts or ()) or "none"
            raise PmgError(f"{argument}.facts has an unknown fact '{unknown[0]}'{hint} Facts of an item: {allowed}.")
        concept = given.title if given.concept is None else given.concept
        identity = default_id if given.id is None else given.id
        facts = {name: str(fact) for name, fact in given.facts.items()}
        return Item(identity, concept, given.title, tuple(given.keywords), given.topic, facts), given.image


def _explain(argument: str, error: ValidationError) -> str:
    """Returns what is wrong with the first wrong field, and what is allowed."""
    # unknown fields first: a misspelt one explains a missing one
    first = min(error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")
    name = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        hint = nearest(name, _ItemFields.model_fields) or "."
        return f"{argument}.{name} is no field of an item{hint} An item has {FIELDS}."
    if first["type"] == "missing":
        return f"{argument}.{name} is missing. An item has {FIELDS}."
    return f"{argument}.{name} can't be {first['input']!r:.80}: {first['msg']}"


def _check_list(argument: str, value: Any) -> None:
    match value:
        case [*_]:
            return
    raise PmgError(f"{argument} must be a list of items: {value!r:.80}")


def _read_turns(argument: str, messages: Any) -> tuple[Turn, ...]:
    """Returns a conversation's messages, mappings with ``role`` and ``content`` or pairs of texts, else PmgError."""
    turns = []
    _check_list(argument, messages)
    for row, message in enumerate(messages):
        match message:
            case [str(), str()] | Mapping():
                named = dict(message if isinstance(message, Mapping) else zip(PAIR, message, strict=True))
                try:
                    turns.append(Message.model_validate(named).as_turn())
                except ValidationError as error:
                    raise PmgError(f"{argument}[{row}]: {explain(error)}") from None
            case _:
                raise PmgError(
                    f"{argument}[{row}] must be a mapping with role and content, or (speaker, text): {message!r:.80}"
                )
    return tuple(turns)


def draw_seeds(generator: torch.Generator | Sequence[torch.Generator] | None, count: int) -> list[int]:
    """Returns the noise seeds of `count` images, drawn by `generator`, or a list of one for each; None: torch's.

    PmgError if the list has another length, or holds something else.
    """
    allowed = f"generator must be a torch.Generator, or a list of one for each of the {count} images"
    match generator:
        case None:
            return torch.randint(2**62, (count,)).tolist()
        case torch.Generator():
            return torch.randint(2**62, (count,), generator=generator, device=generator.device).tolist()
        case [*generators] if len(generators) == count and all(isinstance(one, torch.Generator) for one in generators):
            return [seed for one in generators for seed in draw_seeds(one, 1)]
        case [*generators]:
            raise PmgError(f"{allowed}; the list has {len(generators)} entries: {generators!r:.80}")
    raise PmgError(f"{allowed}: {generator!r:.80}")


def check_alpha(alpha: float | None) -> None:
    """Raises a `PmgError` if an alpha is given that is no number in [0, 1]."""
    if not (alpha is None or (isinstance(alpha, Real) and 0 <= alpha <= 1)):
        raise PmgError(f"alpha must be in [0, 1], got {alpha!r:.80}")


def check_count(argument: str, value: Any) -> None:
    """Raises a `PmgError` if an argument is no whole number of at least 1."""
    if not (isinstance(value, Integral) and int(value) >= 1):
        raise PmgError(f"{argument} must be at least 1, a whole number: {value!r:.80}")


def read_scales(scales: Scales, guidance_scale: float | Mapping[str, float] | None) -> Scales:
    """Returns the guidance scales of a call; `scales` are the pipeline's.

    `guidance_scale` is that of target, keywords and soft tokens alike, or a mapping of the scales that change; None:
    no change; 1: no guidance. PmgError if a name is unknown, or a scale is no number of at least 0.
    """
    if guidance_scale is None:
        return scales
    together = dict.fromkeys(("target", "keywords", "soft"), guidance_scale)
    if isinstance(guidance_scale, Real) and guidance_scale == 1:
        together["negative"] = 0.0
    changes: Mapping[str, Any] = guidance_scale if isinstance(guidance_scale, Mapping) else together
    names = asdict(scales)
    for name, value in changes.items():
        if name not in names:
            hint = nearest(str(name), names) or "."
            raise PmgError(f"guidance_scale has no '{name}'{hint} Scales: {', '.join(names)}.")
        if not (isinstance(value, Real) and 0 <= float(value) < math.inf):
            allowed = f"a number of at least 0, or a mapping of {', '.join(names)}"
            raise PmgError(f"guidance_scale must be {allowed}: {value!r}")
    return replace(scales, **changes)
