"""Items as arguments of the inference pipeline: titles, mappings of fields or objects, checked by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from pmg.configuration.instantiate import nearest
from pmg.data.dataset import ImageStore
from pmg.domain import Item, PmgError
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
