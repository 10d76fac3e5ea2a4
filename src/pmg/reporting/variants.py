"""The config keys that vary over a set of runs, and labels of their values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from pmg.evaluation.table_rendering import NOTHING
from pmg.paths import natural_key
from pmg.reporting.runs import RunFolder

ABSENT = "absent"  # value of a key that a run lacks; no JSON value
LONGEST = 48  # characters of a value in tables and figures


@dataclass(frozen=True)
class Factors:
    """Keys of the config that vary."""

    varied: tuple[str, ...]
    chosen: tuple[str, ...]  # of those, the keys that runs are grouped by: one of keys that say the same
    same: Mapping[str, tuple[str, ...]]  # for each chosen one, the keys that always change with it

    def values(self, run: RunFolder) -> tuple[str, ...]:
        """Returns the run's values of the chosen keys, formatted for tables."""
        return tuple(show(run.config[key], key) if key in run.config else NOTHING for key in self.chosen)

    @property
    def name(self) -> str:
        """The key whose values are the labels; empty if several keys vary."""
        return self.chosen[0] if len(self.chosen) == 1 else ""

    def label(self, values: Sequence[str]) -> str:
        """Returns the label of a group: keys with values, or the value alone if a single key varies."""
        if len(self.chosen) == 1:
            return values[0]
        return ", ".join(f"{short(key)} = {value}" for key, value in zip(self.chosen, values, strict=True)) or "all"


def find_factors(runs: Sequence[RunFolder]) -> Factors:
    """Compares the configs of all runs that have one."""
    known = [run for run in runs if run.config]
    varied = [key for key in dict.fromkeys(key for run in known for key in run.config) if _varies(key, known)]
    chosen: dict[str, list[str]] = {}
    for key in sorted(varied, key=lambda key: key.count(".")):
        column = _column(key, known)
        twin = next((other for other in chosen if _say_the_same(_column(other, known), column)), None)
        chosen.setdefault(twin or key, []).extend([key] if twin else [])
    return Factors(tuple(varied), tuple(chosen), {key: tuple(same) for key, same in chosen.items() if same})


def _varies(key: str, runs: Sequence[RunFolder]) -> bool:
    """Whether runs have different values, or of one command some lack the key."""
    having = {run.command for run in runs if key in run.config}
    found = set(_column(key, [run for run in runs if run.command in having]))
    if key.startswith(("method.", "preference.")):
        found.discard(ABSENT)  # a column of its own says which methods a run has
    return len(found) > 1


def _column(key: str, runs: Iterable[RunFolder]) -> list[str]:
    return [json.dumps(run.config[key], default=str) if key in run.config else ABSENT for run in runs]


def _say_the_same(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether a key's values are another's, or name them one to one; two numbers may do that by chance."""
    if one == other:
        return True
    numbers = numbers_of(value for value in (*one, *other) if value != ABSENT)
    return numbers is None and len(set(zip(one, other, strict=True))) == len(set(one)) == len(set(other))


def numbers_of(texts: Iterable[str]) -> list[float] | None:
    """Returns texts as numbers, or None where one is none."""
    try:
        return [float(text) for text in texts]
    except ValueError:
        return None


def short(key: str) -> str:
    """The last two parts of a dotted key."""
    return ".".join(key.split(".")[-2:])


def show(value: Any, key: str = "") -> str:
    """A value of the config as readers see it."""
    if key.endswith("_target_"):
        value = str(value).rpartition(".")[2]
    if isinstance(value, list):
        return cut(", ".join(show(each) for each in value) or "nothing")
    return cut(value if isinstance(value, str) else json.dumps(value, default=str))


def cut(text: str) -> str:
    """Shortens a text in the middle; a digest keeps apart what would look the same."""
    half = LONGEST // 2
    return (
        text if len(text) <= LONGEST else f"{text[:half]}…{text[-half + 6 :]} #{sha256(text.encode()).hexdigest()[:4]}"
    )


def order(values: Sequence[str]) -> list[Any]:
    """Sorts groups by their values: numbers as numbers, before texts."""
    return [(0, *found, []) if (found := numbers_of([value])) else (1, 0.0, natural_key(value)) for value in values]
