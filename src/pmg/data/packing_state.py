"""The report of packing a data set's images, and its state for resuming."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from pmg.cache import atomic_write_json

FOLDER = "pictures"
STATE = ".packing.json"
COUNTERS = ("left_out", "changed")


@dataclass
class PackingReport:
    """Rows, hashes and counts of packed images.

    Attributes:
        row: row number of each packed image, by item.
        phash: perceptual hash of each packed image, 16 hexadecimal digits, by item.
        colours: mean colours of each packed image's cells, see `mean_colours`, by item.
        left_out: number of items without a usable image, by reason.
        changed: number of images that differ from the published ones, by conversion.
        first: the first item of each reason or conversion, as text.
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
        """Counts an item for a reason, and notes it if it is the first."""
        counter[reason] += 1
        self.first.setdefault(reason, f"item {item}: {path.name if path else 'no file of its name'}")


@dataclass
class PackingState:
    """The progress of a packing, saved in the folder of the prepared data.

    Attributes:
        folder: of the prepared data.
        identity: a hash of everything that determines the shards.
        packed: the report about the first `items`.
        items: number of items in complete shards, or left out.
    """

    folder: Path
    identity: str
    packed: PackingReport = field(default_factory=PackingReport)
    items: int = 0

    @property
    def shards(self) -> Path:
        """The folder of the shards until `replace` moves it to its final name."""
        return self.folder / f".{FOLDER}"

    @classmethod
    def open(cls, folder: Path, identity: str) -> PackingState:
        """Returns the saved state of this identity; a new one where there is none, or where a shard is damaged."""
        state = cls(folder, identity)
        try:
            saved = json.loads((folder / STATE).read_text())
            if saved["identity"] == identity:
                packed: dict[str, Any] = saved["packed"]
                counters = {name: Counter(packed[name]) for name in COUNTERS}
                state = cls(folder, identity, PackingReport(**{**packed, **counters}), saved["items"])
        except (OSError, ValueError, KeyError):
            pass
        if not state._is_intact():
            state = cls(folder, identity)
        if not state.items:
            shutil.rmtree(state.shards, ignore_errors=True)
            state.shards.mkdir(parents=True)
        return state

    def _is_intact(self) -> bool:
        shards = self.shards if self.shards.is_dir() else self.folder / FOLDER
        files = {shards / Path(name).name: digest for name, digest in self.packed.sha256.items()}
        return all(path.is_file() and sha256(path.read_bytes()).hexdigest() == files[path] for path in files)

    def save(self, items: int) -> None:
        """Saves that the first `items` are packed or left out."""
        self.items = items
        saved = {"identity": self.identity, "items": items, "packed": vars(self.packed)}
        atomic_write_json(self.folder / STATE, saved)

    def replace(self) -> None:
        """Moves the shards to their final folder, unless they are there already."""
        if self.shards.is_dir():
            shutil.rmtree(self.folder / FOLDER, ignore_errors=True)
            self.shards.rename(self.folder / FOLDER)

    def drop(self) -> None:
        """Deletes shards and state."""
        shutil.rmtree(self.shards, ignore_errors=True)
        (self.folder / STATE).unlink(missing_ok=True)
