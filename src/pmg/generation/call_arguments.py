"""Arguments of the inference pipeline: users, targets, seeds and guidance, checked by name."""

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
from pmg.data.chats import Message, explain, name_speaker
from pmg.data.dataset import ImageStore
from pmg.domain import Item, PmgError, Turn
from pmg.generation.guidance import Scales
from pmg.generation.requests import Request
from pmg.models.vision.pictures import to_picture

ItemLike = Item | Mapping[str, Any] | str
Pictured = tuple[Item, Image.Image | None]


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
    """Returns items of a data set with their pictures, as arguments of an inference pipeline; facts are left out.

    Args:
        items: of the data set.
        images: its images.
    """
    pixels = images.pixels(images.rows(items))
    return [
        {
            "title": item.title,
            "id": item.id,
            "concept": item.concept,
            "keywords": item.keywords,
            "topic": item.topic,
            "image": to_picture(image),
        }
        for item, image in zip(items, pixels, strict=True)
    ]


def read_item(argument: str, value: ItemLike, default_id: str, facts: Sequence[str] | None = None) -> Pictured:
    """Returns an item, and its picture or None.

    Args:
        argument: its name for messages, e.g. ``history[2]``.
        value: an `Item`, its title, or a mapping of fields.
        default_id: for items without an id.
        facts: names of the facts that captions are formatted with; None: facts are not checked.

    Raises:
        PmgError: `value` is no item, a field is unknown or of another type, the title is empty, or a mapping has a
            fact that `facts` doesn't list.
    """
    match value:
        case Item():
            item, picture = value, None
        case str():
            item, picture = Item(default_id, value, value), None
        case Mapping():
            item, picture = _from_mapping(argument, value, default_id, facts)
        case _:
            raise PmgError(f"{argument} is no item: {value!r:.80}. Give a title, or a mapping with {FIELDS}.")
    if not item.title.strip():
        raise PmgError(f"{argument} has an empty title. Give a title, e.g. 'rocket'.")
    return item, picture


def _from_mapping(
    argument: str, value: Mapping[str, Any], default_id: str, facts: Sequence[str] | None
) -> Pictured:  # fmt: skip
    try:
        given = _ItemFields.model_validate(dict(value))
    except ValidationError as error:
        raise PmgError(_explain(argument, error)) from None
    unknown = [name for name in given.facts if facts is not None and name not in facts]
    if unknown:
        hint, allowed = nearest(unknown[0], facts or ()) or ".", ", ".join(facts or ()) or "none"
        raise PmgError(f"{argument}.facts has an unknown fact '{unknown[0]}'{hint} Facts of an item: {allowed}.")
    concept = given.title if given.concept is None else given.concept
    identity = default_id if given.id is None else given.id
    values = {name: str(fact) for name, fact in given.facts.items()}
    item = Item(identity, concept, given.title, tuple(given.keywords), given.topic, values)
    return item, given.image


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


def check_facts(argument: str, item: Item, facts: Sequence[str] | None) -> None:
    """Checks that an item has the facts that captions are formatted with.

    Raises:
        PmgError: a fact is missing.
    """
    missing = [name for name in facts or () if name not in item.facts]
    if missing:
        hint = nearest(missing[0], item.facts) or "."
        present = ", ".join(item.facts) or "none"
        raise PmgError(
            f"{argument} ('{item.title}') has no fact '{missing[0]}'{hint} This pipeline describes items of a history "
            f"by {', '.join(facts or ())}; this one has {present}. Give a mapping with title and facts."
        )


History = Sequence[ItemLike]
Conversation = Sequence[Mapping[str, str] | Sequence[str]]


@dataclass(frozen=True)
class UserInput:
    """One user's part of a call.

    Attributes:
        liked: liked items with their pictures, oldest first.
        disliked: likewise.
        conversation: messages, oldest first.
    """

    liked: Sequence[Pictured]
    disliked: Sequence[Pictured]
    conversation: tuple[Turn, ...]


def read_users(
    history: History | Sequence[History], dislikes: History | Sequence[History],
    conversation: Conversation | Sequence[Conversation], facts: Sequence[str] | None,
) -> tuple[list[UserInput], bool]:  # fmt: skip
    """Returns the users of a call, and whether it is a batch: a list of histories.

    Args:
        history: of one user, or a history for each of B users.
        dislikes: likewise; empty: none.
        conversation: likewise; empty: none.
        facts: names of the facts that captions are formatted with; None: facts are not checked.

    Raises:
        PmgError: numbers of users differ, or an entry is no item and no message.
    """
    match history:
        case [[*_], *_]:
            histories: Sequence[Any] = history
        case [*_]:
            return [_read_user("", (history, dislikes, conversation), facts)], False
        case _:
            raise PmgError(f"history must be a list of items, or a list of such lists: {history!r:.80}")
    columns = [histories]
    for name, value in (("dislikes", dislikes), ("conversation", conversation)):
        columns.append(value or [()] * len(histories))
        if len(columns[-1]) != len(histories):
            raise PmgError(
                f"{name} must have one list for each of the {len(histories)} histories, and it has {len(value)}"
            )
    return [_read_user(f"[{row}]", parts, facts) for row, parts in enumerate(zip(*columns, strict=True))], True


def _read_user(place: str, parts: Sequence[Any], facts: Sequence[str] | None) -> UserInput:
    """Returns one user's part of a call; `place` is the index in a batch, for messages."""
    columns: list[list[Pictured]] = []
    for name, prefix, values in (("history", "liked", parts[0]), ("dislikes", "disliked", parts[1])):
        argument = f"{name}{place}"
        _check_list(argument, values)
        read = [read_item(f"{argument}[{row}]", value, f"{prefix}-{row}", facts) for row, value in enumerate(values)]
        for row, (item, _) in enumerate(read):
            check_facts(f"{argument}[{row}]", item, facts)
        columns.append(read)
    return UserInput(columns[0], columns[1], _read_turns(f"conversation{place}", parts[2]))


def _check_list(argument: str, value: Any) -> None:
    match value:
        case [*_]:
            return
    raise PmgError(f"{argument} must be a list of items: {value!r:.80}")


def _read_turns(argument: str, messages: Any) -> tuple[Turn, ...]:
    """Returns the messages of a conversation, given as mappings with ``role`` and ``content`` or as pairs of texts.

    Raises:
        PmgError: one is neither.
    """
    turns = []
    _check_list(argument, messages)
    for row, message in enumerate(messages):
        match message:
            case [str(speaker), str(text)]:
                turns.append(Turn(name_speaker(speaker), text))
            case Mapping():
                turns.append(_read_message(f"{argument}[{row}]", message))
            case _:
                raise PmgError(
                    f"{argument}[{row}] must be a mapping with role and content, or (speaker, text): {message!r:.80}"
                )
    return tuple(turns)


def _read_message(argument: str, message: Mapping[str, Any]) -> Turn:
    try:
        return Message.model_validate(dict(message)).as_turn()
    except ValidationError as error:
        raise PmgError(f"{argument}: {explain(error)}") from None


def read_targets(
    target: ItemLike | Sequence[ItemLike] | None, users: int | None, facts: Sequence[str] | None
) -> tuple[list[Item], bool]:
    """Returns the target of each image prompt, and whether they were given as a list.

    Args:
        target: one target for all users, or one for each of them; for one history, any number; None: an item without
            a title, which the conversation replaces.
        users: number of histories in a batch; None: one history, no batch.
        facts: names of the facts of items; None: facts are not checked.

    Raises:
        PmgError: a target is no item, has an empty title, or their number isn't that of the users.
    """
    match target:
        case None:
            return [Item("target", "", "")] * (users or 1), False
        case []:
            raise PmgError("target is an empty list. Give a title, e.g. 'rocket', or one for each history.")
        case [*given]:
            if users not in (None, len(given)):
                raise PmgError(f"target has {len(given)} entries for {users} histories: give one for each, or one")
            return [read_item(f"target[{row}]", one, "target", facts)[0] for row, one in enumerate(given)], True
        case _:
            item: Any = target
            return [read_item("target", item, "target", facts)[0]] * (users or 1), False


def read_user(
    history: History, target: ItemLike | None, dislikes: History, conversation: Conversation,
    facts: Sequence[str] | None,
) -> tuple[UserInput, Item]:  # fmt: skip
    """Returns the user and the target of one image.

    Args:
        history: liked items, oldest first.
        target: what the image shows; None: an item without a title, which the conversation replaces.
        dislikes: disliked items.
        conversation: messages, oldest first.
        facts: names of the facts of items; None: facts are not checked.

    Raises:
        PmgError: several users or targets are given, or one of `read_users` and `read_targets`.
    """
    users, batched = read_users(history, dislikes, conversation, facts)
    targets, listed = read_targets(target, None, facts)
    if batched or listed:
        raise PmgError("history and target must be those of one image: a list of items, and an item")
    return users[0], targets[0]


def draw_seeds(generator: torch.Generator | Sequence[torch.Generator] | None, count: int) -> list[int]:
    """Returns the noise seeds of `count` images.

    Args:
        generator: draws all seeds, or a list of one for each image; None: torch's default generator.
        count: number of images.

    Raises:
        PmgError: the list has another length, or holds something else.
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
        case _:
            raise PmgError(f"{allowed}: {generator!r:.80}")


def check_alpha(alpha: float | None) -> None:
    """Raises a `PmgError` if an alpha is given that is no number in [0, 1]."""
    match alpha:
        case None:
            return
        case Real() if 0 <= alpha <= 1:
            return
    raise PmgError(f"alpha must be in [0, 1], got {alpha!r:.80}")


def check_requests(requests: Sequence[Request]) -> None:
    """Raises a `PmgError` if there are no requests, or the alpha of one is no number in [0, 1]."""
    if not requests:
        raise PmgError("requests is an empty list. Give at least one request of `read`.")
    for request in requests:
        check_alpha(request.alpha)


def check_count(argument: str, value: Any) -> None:
    """Checks that an argument is a whole number of at least 1.

    Raises:
        PmgError: it is not.
    """
    match value:
        case Integral() if int(value) >= 1:
            return
    raise PmgError(f"{argument} must be at least 1, a whole number: {value!r:.80}")


def read_scales(scales: Scales, guidance_scale: float | Mapping[str, float] | None) -> Scales:
    """Returns the guidance scales of a call.

    Args:
        scales: of the pipeline.
        guidance_scale: for target, keywords and soft tokens alike, or a mapping of the scales that change; None: no
            change. 1 is no guidance.

    Raises:
        PmgError: a name is unknown, or a scale is no number of at least 0.
    """
    match guidance_scale:
        case None:
            return scales
        case Mapping():
            changes = dict(guidance_scale)
        case _:
            changes = dict.fromkeys(("target", "keywords", "soft"), guidance_scale)
    names = asdict(scales)
    for name, value in changes.items():
        if name not in names:
            hint = nearest(str(name), names) or "."
            raise PmgError(f"guidance_scale has no '{name}'{hint} Scales: {', '.join(names)}.")
        match value:
            case Real() if 0 <= value < math.inf:
                continue
        raise PmgError(f"guidance_scale must be a number of at least 0, or a mapping of {', '.join(names)}: {value!r}")
    return replace(scales, **changes)
