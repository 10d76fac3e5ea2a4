"""What the schemas of the commands' configs share: ranges of values, keys of every command, compared arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from pmg.configuration.ranges import Seed


def ranged(default: Any, values: Any = None, **inner: Any) -> Any:
    """Returns a dataclass field with a range of values, which OmegaConf's types don't support.

    Args:
        default: value.
        values: the type of its values, e.g. ``Count | None``.
        **inner: types of the values of a group without a ``_target_``, by name.
    """
    return field(default=default, metadata={"": values, **inner})


def schema_ranges(schema: Any) -> dict[str, Any]:
    """Returns the type of each value that a schema limits, by dotted key."""
    found: dict[str, Any] = {}
    for part in fields(schema) if is_dataclass(schema) else ():
        ranges: Mapping[str, Any] = part.metadata
        found |= {f"{part.name}.{name}".rstrip("."): values for name, values in ranges.items() if values is not None}
        inner = schema_ranges(part.default_factory)
        found |= {f"{part.name}.{name}": values for name, values in inner.items()}
    return found


@dataclass
class RunConfig:
    """Keys of every command. Groups have no schema; `check_targets` checks their keys.

    Attributes:
        name: name of the run; part of its folder.
        seed: seed of every random number generator; null leaves them unseeded.
        run_dir: the run folder; the folder of an interrupted run resumes it.
        paths: folders of assets, outputs and cached results.
        plugins: modules of your own whose classes the config may build, see docs/extending.md.
    """

    name: str = "default"
    seed: int | None = ranged(0, Seed | None)
    run_dir: str | None = None
    paths: Any = None
    plugins: list[str] = field(default_factory=list)


@dataclass
class ComparisonConfig:
    """The arms that all others are compared with.

    Attributes:
        baseline: the arm to improve on.
        oracle: the arm with the true taste.
        proposed: the method under study.
        gap_metric: name of the metric for the share of the gap from baseline to oracle that an arm closes.
    """

    baseline: str = "none"
    oracle: str = "oracle"
    proposed: str = "pmg"
    gap_metric: str = "lpips_truth"
