"""What became of a data set's pictures, and how far a packing had come when it was broken off."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pmg.cache import atomic_write_json

STATE = "state.json"
COUNTERS = ("left_out", "changed")


@dataclass
class Packed:
    """What became of the pictures.

    Attributes:
        row: number of each packed picture, by item.
        phash: perceptual hash of each packed picture, 16 hexadecimal digits, by item.
        left_out: items without a usable picture, by reason.
        changed: pictures that are not as published, by what was done.
        first: the first item of each of these, in words.
        sha256: of the shards, by their path in the prepared folder.
    """

    row: dict[str, int] = field(default_factory=dict)
    phash: dict[str, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)

    def count(self, counter: Counter[str], reason: str, item: str, path: Path | None) -> None:
        """Counts an item, and names it if it is the first."""
        counter[reason] += 1
        self.first.setdefault(reason, f"item {item}: {path.name if path else 'no file of its name'}")


@dataclass
class Unfinished:
    """A packing in work.

    Attributes:
        folder: its shards.
        identity: a hash of all that they depend on.
        packed: what became of the first `items`.
        items: so many are in whole shards, or left out.
    """

    folder: Path
    identity: str
    packed: Packed = field(default_factory=Packed)
    items: int = 0

    @classmethod
    def open(cls, folder: Path, identity: str) -> Unfinished:
        """The one that was broken off in `folder`, or a new one where there is none of this identity."""
        try:
            state = json.loads((folder / STATE).read_text())
        except (OSError, ValueError):
            state = {}
        if state.get("identity") == identity:
            packed = {name: Counter(part) if name in COUNTERS else part for name, part in state["packed"].items()}
            return cls(folder, identity, Packed(**packed), state["items"])
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return cls(folder, identity)

    def save(self, items: int) -> None:
        """Notes that all of the first `items` are dealt with."""
        self.items = items
        state = {"identity": self.identity, "items": items, "packed": vars(self.packed)}
        atomic_write_json(self.folder / STATE, state)

    def replace(self, folder: Path) -> None:
        """Puts the shards where readers look for them."""
        (self.folder / STATE).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        self.folder.rename(folder)

    def drop(self) -> None:
        """Removes the shards."""
        shutil.rmtree(self.folder)
