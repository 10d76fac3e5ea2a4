"""Parts of a study's work that several processes or machines do, and how they become the whole again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pmg.cache import atomic_write_text
from pmg.domain import PmgError
from pmg.generation.records import RECORDS, Key, Record, RecordWriter, as_line, read_records

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Shard:
    """One of `count` equal parts: every `count`-th batch, from number `index` on.

    Whole batches are dealt, since how many images are computed at once changes their last bits.

    Attributes:
        index: from 0 to `count` - 1.
        count: of the parts; 1 is the whole.

    Raises:
        PmgError: there is no such part.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise PmgError(f"shard.index={self.index} of shard.count={self.count}: the index runs from 0 to count - 1")

    def deal(self, batches: Sequence[Thing]) -> list[Thing]:
        """This part's batches."""
        return list(batches[self.index :: self.count])


WHOLE = Shard()


def merge_records(parts: Sequence[Path], folder: Path, keys: Sequence[Key]) -> None:
    """Makes one generation's folder of the parts': the same pictures, the same records in the order of one process.

    Pictures are linked where the disk can do that, else copied; parts are left as they are.

    Args:
        parts: folders of the shards.
        folder: of the whole.
        keys: of all records, in their order.

    Raises:
        PmgError: a part holds no records, pictures are missing, or some were made in another way.
    """
    found: dict[Key, tuple[Path, Record]] = {}
    for part in parts:
        if (part / RECORDS).is_file() and not (part / RECORDS).stat().st_size:
            continue  # there are more shards than batches
        found |= {record.key: (part, record) for record in read_records(part)}
    missing = [key for key in keys if key not in found]
    if missing:
        raise PmgError(
            f"{len(missing)} of {len(keys)} pictures are in none of the shards in {parts[0].parent}, e.g. "
            f"{'/'.join(map(str, missing[0]))}; give the same command again, or remove that folder"
        )
    writer = RecordWriter(folder)
    for record in (found[key][1] for key in keys):
        writer.check(record.method, record.hashes)
    for key in keys:
        part, record = found[key]
        _link(part / record.image, folder / record.image)
    lines = (as_line(found[key][1]) for key in keys)
    atomic_write_text(folder / RECORDS, "".join(lines))


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)


def sum_counts(ledgers: Sequence[Mapping[str, object]]) -> dict[str, int]:
    """What all parts counted together."""
    total: dict[str, int] = {}
    for ledger in ledgers:
        for name, amount in ledger.items():
            if isinstance(amount, int):
                total[name] = total.get(name, 0) + amount
    return total
