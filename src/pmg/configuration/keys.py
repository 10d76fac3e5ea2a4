"""Keys of the commands' configs: default, range, and whether they decide a result, declared together in a dataclass.

The keys that decide a result are a run's *spec*, see `pmg.configuration.identity`. Hashes, resuming, skipping of
completed runs, messages of refusals, and varied keys of reports depend on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from pmg.configuration.ranges import Seed

_SPEC, _RANGES = "spec", "ranges"  # of a field's metadata


def key(default: Any = None, values: Any = None, *, run: str = "", **inner: Any) -> Any:
    """Returns a field of a config's dataclass that decides a result, with its range, which OmegaConf's types lack.

    A class as `default` is called for each config. `values` is the type of the key's values, e.g. ``Count | None``,
    and `inner` has those of a group without a ``_target_``, by name. The keys below it that `run` names, dotted,
    separated by spaces, decide no result.
    """
    return _field(default, {"": True, **dict.fromkeys(run.split(), False)}, {"": values, **inner})


def run_key(default: Any = None, values: Any = None, *, spec: str = "", run: str = "") -> Any:
    """Returns a field that decides no result: how and where it is computed, logged and stored, or what others hold.

    The keys below it that `spec` names decide one, but for those that `run` names. See `key`.
    """
    below = dict.fromkeys(spec.split(), True) | dict.fromkeys(run.split(), False)
    return _field(default, {"": False, **below}, {"": values})


def _field(default: Any, spec: Mapping[str, bool], ranges: Mapping[str, Any]) -> Any:
    metadata = {_SPEC: spec, _RANGES: ranges}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def schema_ranges(schema: Any) -> dict[str, Any]:
    """Returns the type of each value that a schema limits, by dotted key."""
    found: dict[str, Any] = {}
    for part in fields(schema) if is_dataclass(schema) else ():
        ranges: Mapping[str, Any] = part.metadata.get(_RANGES, {})
        found |= {f"{part.name}.{name}".rstrip("."): values for name, values in ranges.items() if values is not None}
        found |= {f"{part.name}.{name}": values for name, values in schema_ranges(part.default_factory).items()}
    return found


def schema_spec(schema: type[RunConfig]) -> Mapping[str, bool]:
    """Returns whether keys decide the result of a schema's command: each key that the schema says it of, dotted.

    A schema of several others, a command that runs several, has the keys that decide the result of any.
    """
    if len(schema.__bases__) > 1:
        tables = [schema_spec(base) for base in schema.__bases__]
        return {name: any(find_key(table, name) for table in tables) for name in set().union(*tables)}
    found: dict[str, bool] = {}
    for part in fields(schema):
        spec: Mapping[str, bool] = part.metadata.get(_SPEC, {"": True})
        found |= {f"{part.name}.{name}".rstrip("."): decides for name, decides in spec.items()}
    return found


def find_key(table: Mapping[str, bool], name: str) -> bool | None:
    """Returns the value of a dotted key, or of its nearest parent in the table; None without either."""
    while name and name not in table:
        name = name.rpartition(".")[0]
    return table.get(name)


@dataclass
class RunConfig:
    """Keys of every command. Groups have no schema; `check_targets` checks their keys."""

    name: str = run_key("default")  # of the run; part of its folder
    seed: int | None = key(0, Seed | None)  # of every random number generator; null leaves them unseeded
    run_dir: str | None = run_key()  # that of an interrupted run resumes it
    paths: Any = run_key()  # folders of assets, outputs and cached results
    plugins: list[str] = run_key(list)  # modules of your own; the classes that it allows are in the rest


@dataclass
class ComparisonConfig:
    """The methods that all others are compared with, see `pmg.evaluation.comparison.Comparison`."""

    baseline: str = "none"
    oracle: str = "oracle"
    proposed: str = "pmg_paper"
    gap_metric: str = "lpips_truth"
