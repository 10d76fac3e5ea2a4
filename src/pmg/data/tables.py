"""Prepared tables of a data set: items, and what users did with them, checked and checksummed.

Every source of interactions is read into this one form by ``pmg-prepare``; nothing else reads publishers' files.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from pmg.cache import atomic_write_bytes, atomic_write_json
from pmg.domain import PmgError

ITEMS = ("id", "concept", "title", "keywords", "topic", "facts")
INTERACTIONS = ("user", "item", "action", "rating", "timestamp")
MANIFEST = "manifest.json"


@dataclass
class Drops:
    """Rows that can't be used, by reason.

    Attributes:
        counts: so many, by reason.
        first: the first of them in words, by reason.
    """

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, rows: pd.DataFrame) -> None:
        """Counts `rows`, whose index numbers them in their file."""
        if len(rows):
            self.counts[reason] = self.counts.get(reason, 0) + len(rows)
            values = ", ".join(f"{name} {value}" for name, value in rows.iloc[0].items())
            self.first.setdefault(reason, f"row {rows.index[0]}: {values}")

    def take(self, table: pd.DataFrame, bad: pd.Series, reason: str) -> pd.DataFrame:
        """Returns `table` without its `bad` rows, which are counted."""
        self.add(reason, table[bad])
        return table[~bad]


@dataclass(frozen=True)
class Tables:
    """A data set.

    Attributes:
        items: one row an item, columns `ITEMS`; keywords are lists, facts mappings of words.
        interactions: one row a behaviour, columns `INTERACTIONS`; rating is NaN where there is only an action.
        drops: what was left out on the way.
        files: sha256 of what was read, by name.
    """

    items: pd.DataFrame
    interactions: pd.DataFrame
    drops: Drops
    files: Mapping[str, str]


def prepare(read: Callable[[], Tables], folder: str, max_dropped: float = 0.01) -> dict[str, Any]:
    """Reads a source, checks every row, and writes tables and manifest.

    Args:
        read: the source.
        folder: is given ``items.parquet``, ``interactions.parquet`` and ``manifest.json``, each whole or not at all.
        max_dropped: the largest share of interactions that may be left out.

    Returns:
        Counts.

    Raises:
        PmgError: too many rows can't be used (which, why and the first of each reason), or none is left.
    """
    tables = check(read())
    dropped, kept = sum(tables.drops.counts.values()), len(tables.interactions)
    told = " · ".join(
        f"{count} x {why} (first: {tables.drops.first[why]})" for why, count in tables.drops.counts.items()
    )
    if not kept or dropped / (dropped + kept) > max_dropped:
        raise PmgError(
            f"{dropped} of {dropped + kept} rows can't be used, source.max_dropped allows {max_dropped:.0%}: {told}"
        )
    files = {
        "items.parquet": tables.items.assign(facts=tables.items["facts"].map(json.dumps)),
        "interactions.parquet": tables.interactions,
    }
    written = {name: _write(Path(folder, name), table) for name, table in files.items()}
    counts = {
        "users": int(tables.interactions["user"].nunique()),
        "items": len(tables.items),
        "interactions": kept,
        "dropped": dict(tables.drops.counts),
    }
    first = dict(tables.drops.first)
    atomic_write_json(
        Path(folder, MANIFEST), {**counts, "first": first, "sources": dict(tables.files), "sha256": written}
    )
    return counts


def check(tables: Tables) -> Tables:
    """Leaves out interactions that name no item, lack a time or stand twice, and items that nobody met."""
    items, rows, drops = tables.items, tables.interactions, tables.drops
    rows = drops.take(rows, rows["timestamp"].isna(), "has no timestamp")
    rows = drops.take(rows, ~rows["item"].isin(items["id"]), "names an item that the items lack")
    rows = drops.take(rows, rows.duplicated(["user", "item", "action", "timestamp"]), "stands twice")
    rows = rows.astype({"timestamp": "int64"}).sort_values(["user", "timestamp", "item"], kind="stable")
    met = items[items["id"].isin(rows["item"])]
    return Tables(met.reset_index(drop=True), rows.reset_index(drop=True), drops, tables.files)


def load(folder: str, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reads prepared tables and compares their checksums.

    Args:
        folder: of the tables.
        name: of the data set, for errors.

    Returns:
        Items and interactions.

    Raises:
        PmgError: a file is missing or damaged.
    """
    manifest = Path(folder, MANIFEST)
    if not manifest.is_file():
        raise PmgError(f"{manifest} is missing; make it first: pmg-prepare data={name}")
    expected = json.loads(manifest.read_text())["sha256"]
    items, interactions = (_read(Path(folder, file), expected[file], name) for file in sorted(expected, reverse=True))
    return items.assign(facts=items["facts"].map(json.loads)), interactions


def _write(path: Path, table: pd.DataFrame) -> str:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False, compression="zstd")
    atomic_write_bytes(path, buffer.getvalue())
    return sha256(buffer.getvalue()).hexdigest()


def _read(path: Path, expected: str, name: str) -> pd.DataFrame:
    content = path.read_bytes() if path.is_file() else b""
    if sha256(content).hexdigest() != expected:
        raise PmgError(f"{path} is missing or not what its manifest says; make it again: pmg-prepare data={name}")
    return pd.read_parquet(io.BytesIO(content))


def as_rows(columns: Sequence[str], **values: Any) -> pd.DataFrame:
    """A table of `columns` in their order."""
    return pd.DataFrame(values)[list(columns)]
