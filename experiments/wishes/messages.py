"""Messages that were written for the scenes of `scenes`, and what two readers of them say is asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Label:
    """What one reader says that messages ask for."""

    changes: Mapping[str, frozenset[str]]  # by attribute that is asked to change: the options that would do
    optional: frozenset[str]  # attributes that might also be meant


@dataclass(frozen=True)
class Written:
    """Messages of one person about one scene, in time order."""

    id: str
    scene: str
    kind: str  # one_line, free, none (no wish), back (a wish is taken back)
    language: str
    voice: str
    messages: tuple[str, ...]
    labels: tuple[Label, ...]

    @property
    def asked(self) -> set[str]:
        """Attributes that all readers say are asked to change."""
        return set.intersection(*(set(one.changes) for one in self.labels))

    def allows(self, attribute: str, option: str) -> bool:
        """Returns whether a reader would take an option for what was asked for."""
        of_changes = [one.changes[attribute] for one in self.labels if attribute in one.changes]
        return any(option in options for options in of_changes) or (
            not of_changes and any(attribute in one.optional for one in self.labels)
        )


def read_messages(name: str, options: Mapping[str, Sequence[str]]) -> list[Written]:
    """Returns the messages of a file of this folder; `options` are those of each attribute."""
    rows = []
    for line in (HERE / f"{name}.jsonl").read_text().splitlines():
        row = json.loads(line)
        labels = tuple(_read_label(one, options) for one in row["labels"])
        rows.append(Written(**{**row, "messages": tuple(row["messages"]), "labels": labels}))
    return rows


def _read_label(row: Mapping[str, Sequence[str]], options: Mapping[str, Sequence[str]]) -> Label:
    changes = {name: frozenset(_expand(texts, options[name])) for name, texts in row["changes"].items()}
    return Label({name: found for name, found in changes.items() if found}, frozenset(row["optional"]))


def _expand(texts: Sequence[str], options: Sequence[str]) -> list[str]:
    """Returns the options that one of the expressions matches; of one that begins with ``!``, all others."""
    return [
        one for one in options if any(bool(re.fullmatch(text.lstrip("!"), one)) != (text[0] == "!") for text in texts)
    ]


def agreement(rows: Sequence[Written], attributes: Sequence[str]) -> tuple[float, float]:
    """Returns Cohen's kappa of "is this attribute asked to change?", and how often options of those two share one."""
    pairs = [(name in row.labels[0].changes, name in row.labels[1].changes) for row in rows for name in attributes]
    observed = sum(one == other for one, other in pairs) / len(pairs)
    first, second = (sum(pair[place] for pair in pairs) / len(pairs) for place in (0, 1))
    chance = first * second + (1 - first) * (1 - second)
    shared = [bool(row.labels[0].changes[name] & row.labels[1].changes[name]) for row in rows for name in row.asked]
    return (observed - chance) / (1 - chance), sum(shared) / len(shared)
