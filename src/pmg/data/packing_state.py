"""What became of a data set's pictures, and how far a packing had come when it was broken off."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from pmg.cache import atomic_write_json

FOLDER = "pictures"
STATE = ".packing.json"
COUNTERS = ("left_out", "changed")


@dataclass
class Packed:
    """What became of the pictures.

    Attributes:
        row: number of each packed picture, by item.
        phash: perceptual hash of each packed picture, 16 hexadecimal digits, by item.
        colours: mean colours of each packed picture's cells, see `mean_colours`, by item.
        left_out: items without a usable picture, by reason.
        changed: pictures that are not as published, by what was done.
        first: the first item of each of these, in words.
        sha256: of the shards, by their path in the prepared folder.
    """

    row: dict[str, int] = field(default_factory=dict)
    phash: dict[str, str] = field(default_factory=dict)
    colours: dict[str, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)

    def count(self, counter: Counter[str], reason: str, item: str, path: Path | None) -> None:
        """Counts an item, and names it if it is the first."""
        counter[reason] += 1
        self.first.setdefault(reason, f"item {item}: {path.name if path else 'no file of its name'}")


@dataclass
class Work:
    """A packing as far as it has come, noted in the folder of the prepared data and kept there.

    Attributes:
        folder: of the prepared data.
        identity: a hash of all that the shards depend on.
        packed: what became of the first `items`.
        items: so many are in whole shards, or left out.
    """

    folder: Path
    identity: str
    packed: Packed = field(default_factory=Packed)
    items: int = 0

    @property
    def shards(self) -> Path:
        """The folder of the shards until they replace those that readers see."""
        return self.folder / f".{FOLDER}"

    @classmethod
    def open(cls, folder: Path, identity: str) -> Work:
        """What `folder` has of this identity; a new one where there is nothing, or not whole."""
        work = cls(folder, identity)
        try:
            state = json.loads((folder / STATE).read_text())
            if state["identity"] == identity:
                packed = {name: Counter(part) if name in COUNTERS else part for name, part in state["packed"].items()}
                work = cls(folder, identity, Packed(**packed), state["items"])
        except (OSError, ValueError, KeyError):
            pass
        if not work._is_whole():
            work = cls(folder, identity)
        if not work.items:
            shutil.rmtree(work.shards, ignore_errors=True)
            work.shards.mkdir(parents=True)
        return work

    def _is_whole(self) -> bool:
        place = self.shards if self.shards.is_dir() else self.folder / FOLDER
        files = {place / Path(name).name: digest for name, digest in self.packed.sha256.items()}
        return all(path.is_file() and sha256(path.read_bytes()).hexdigest() == files[path] for path in files)

    def save(self, items: int) -> None:
        """Notes that all of the first `items` are dealt with."""
        self.items = items
        state = {"identity": self.identity, "items": items, "packed": vars(self.packed)}
        atomic_write_json(self.folder / STATE, state)

    def replace(self) -> None:
        """Puts the shards where readers look for them, unless they are there."""
        if self.shards.is_dir():
            shutil.rmtree(self.folder / FOLDER, ignore_errors=True)
            self.shards.rename(self.folder / FOLDER)

    def drop(self) -> None:
        """Forgets the packing."""
        shutil.rmtree(self.shards, ignore_errors=True)
        (self.folder / STATE).unlink(missing_ok=True)
