"""Keys of the commands' configs: default, range and role, declared together in a dataclass; and keys of every command.

Hashes, resuming, skipping of completed runs, messages of refusals, and varied keys of reports depend on the roles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from typing import Any

from pmg.configuration.ranges import Seed


class Role(StrEnum):
    """The role of a config value in a command."""

    RESULT = "result"  # decides the command's result
    EXECUTION = "execution"  # decides how and where the result is computed, and what is logged
    DESTINATION = "destination"  # a folder, or the name or a note of the run
    UNUSED = "unused"  # has no effect: it is read by another command, or through interpolations only


_ROLES, _RANGES = "roles", "ranges"  # of a field's metadata


def key(
    default: Any = None, values: Any = None, role: str = "result", *,
    result: str = "", execution: str = "", destination: str = "", unused: str = "", **inner: Any,
) -> Any:  # fmt: skip
    """Returns a dataclass field of a config with its role, and a range of values, which OmegaConf's types lack.

    A class as `default` is called for each config. `values` is the type of the key's values, e.g. ``Count | None``,
    and `inner` has those of a group without a ``_target_``, by name. `role` is that of the key, and of the keys below
    it that `result`, `execution`, `destination` and `unused` don't name: dotted, separated by spaces, see `Role`.
    """
    roles = {"": Role(role)}
    for name, listed in zip(Role, (result, execution, destination, unused), strict=True):
        roles |= dict.fromkeys(listed.split(), name)
    metadata = {_ROLES: roles, _RANGES: {"": values, **inner}}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def execution(default: Any = None, values: Any = None) -> Any:
    """Returns a field that decides how a result is computed, see `key`."""
    return key(default, values, "execution")


def destination(default: Any = None, **roles: str) -> Any:
    """Returns a field that names a folder or the run, see `key`."""
    return key(default, role="destination", **roles)


def schema_ranges(schema: Any) -> dict[str, Any]:
    """Returns the type of each value that a schema limits, by dotted key."""
    found: dict[str, Any] = {}
    for part in fields(schema) if is_dataclass(schema) else ():
        ranges: Mapping[str, Any] = part.metadata.get(_RANGES, {})
        found |= {f"{part.name}.{name}".rstrip("."): values for name, values in ranges.items() if values is not None}
        found |= {f"{part.name}.{name}": values for name, values in schema_ranges(part.default_factory).items()}
    return found


def schema_roles(schema: type[RunConfig]) -> Mapping[str, Role]:
    """Returns the role of each key that a schema declares one for, by dotted key.

    A schema of several others, a command that runs several, has of each key the first role in the order of `Role`.
    """
    found: dict[str, Role] = {}
    for part in fields(schema):
        roles: Mapping[str, Role] = part.metadata.get(_ROLES, {"": Role.RESULT})
        found |= {f"{part.name}.{name}".rstrip("."): role for name, role in roles.items()}
    if len(schema.__bases__) == 1:
        return found
    tables = [schema_roles(base) for base in schema.__bases__]
    together = {name: [role for table in tables if (role := find_key(table, name))] for name in set().union(*tables)}
    return {name: min(roles, key=list(Role).index) for name, roles in together.items()}


def find_key(table: Mapping[str, Role], name: str) -> Role | None:
    """Returns the role of a dotted key, or of its nearest parent in the table; None without either."""
    while name and name not in table:
        name = name.rpartition(".")[0]
    return table.get(name)


@dataclass
class RunConfig:
    """Keys of every command. Groups have no schema; `check_targets` checks their keys."""

    name: str = key("default", role="destination")  # of the run; part of its folder
    seed: int | None = key(0, Seed | None)  # of every random number generator; null leaves them unseeded
    run_dir: str | None = key(role="destination")  # that of an interrupted run resumes it
    paths: Any = key(role="destination")  # folders of assets, outputs and cached results
    plugins: list[str] = key(list, role="execution")  # modules of your own; the classes that it allows are in the rest


@dataclass
class ComparisonConfig:
    """The arms that all others are compared with, see `pmg.evaluation.comparison.Comparison`."""

    baseline: str = "none"
    oracle: str = "oracle"
    proposed: str = "pmg_paper"
    gap_metric: str = "lpips_truth"
