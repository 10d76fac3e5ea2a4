"""Shards of a generation or an evaluation, and the merging of their records."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pmg.cache import atomic_write_text
from pmg.domain import PmgError
from pmg.records.storage import RECORDS, Key, Record, RecordWriter, as_line, read_records

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Shard:
    """One of `count` shards: every `count`-th batch, starting with number `index`; PmgError if that is out of range.

    A shard has whole batches, since the batch size changes the last bits of an image.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise PmgError(f"shard.index={self.index} of shard.count={self.count}: the index runs from 0 to count - 1")

    def select(self, batches: Sequence[Thing]) -> list[Thing]:
        """Returns the batches of this shard."""
        return list(batches[self.index :: self.count])


WHOLE = Shard()


def merge_records(parts: Sequence[Path], folder: Path, keys: Sequence[Key]) -> None:
    """Merges the shards of a generation: the same images and records, in the same order, as without sharding.

    Images are hard-linked if the file system supports it, else copied; the shards are unchanged. PmgError if a
    shard has no records, images are missing, or hashes of a method differ.
    """
    found: dict[Key, tuple[Path, Record]] = {}
    for part in parts:
        if (part / RECORDS).is_file() and not (part / RECORDS).stat().st_size:
            continue  # fewer batches than shards
        found |= {record.key: (part, record) for record in read_records(part)}
    if missing := [key for key in keys if key not in found]:
        raise PmgError(
            f"{len(missing)} of {len(keys)} pictures are in none of the shards in {parts[0].parent}, e.g. "
            f"{'/'.join(map(str, missing[0]))}. Run the same command again, or remove that folder."
        )
    writer = RecordWriter(folder)
    ordered = [found[key] for key in keys]
    for _, record in ordered:
        writer.check(record.method, record.hashes)
    for part, record in ordered:
        _link(part / record.image, folder / record.image)
    atomic_write_text(folder / RECORDS, "".join(as_line(record) for _, record in ordered))


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)
