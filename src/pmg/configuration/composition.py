"""Top-level keys that a command reads, and those of other commands of the same experiment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass, make_dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from pmg.configuration.schemas import SCHEMAS

PIPELINE = ("train", "generate", "evaluate", "study", "export", "estimate")
"""Commands with common experiments and overrides; each reads its own keys."""


def read_keys(command: str) -> set[str]:
    """Returns the top-level keys that a command reads."""
    return {part.name for part in fields(SCHEMAS[command])}


@cache
def other_keys(command: str) -> Mapping[str, Any]:
    """Returns the top-level keys that only other commands of the pipeline read, each with an empty value."""
    if command not in PIPELINE:
        return MappingProxyType({})
    parts = {part.name: part for verb in PIPELINE for part in fields(SCHEMAS[verb])}
    read = read_keys(command)
    return MappingProxyType(
        {
            name: {} if part.type == "Any" or is_dataclass(part.default_factory) else None
            for name, part in parts.items()
            if name not in read
        }
    )


def deletes_other(override: str, command: str) -> bool:
    """Returns whether an override deletes a key of other commands only, which Hydra would not find."""
    return override.startswith("~") and re.split(r"[./=]", override[1:])[0] in other_keys(command)


def build_schema(command: str) -> type[Any]:
    """Returns the dataclass of a command's config, with the keys of the pipeline's other commands.

    An experiment or a command line may have values of all of them; the launcher removes those of other commands.
    """
    extra: list[Any] = [
        (name, Any, None) if value is None else (name, dict[str, Any] | None, field(default_factory=dict))
        for name, value in other_keys(command).items()
    ]
    schema = SCHEMAS[command]
    if not extra:
        return schema
    whole = make_dataclass(schema.__name__, extra, bases=(schema,))
    whole.__module__ = __name__
    return whole


WHOLE_SCHEMAS: dict[str, type[Any]] = {command: build_schema(command) for command in SCHEMAS}
"""The schema of each command, see `build_schema`."""
# pickled configs refer to their types by name
globals().update({whole.__name__: whole for whole in WHOLE_SCHEMAS.values() if whole.__module__ == __name__})
