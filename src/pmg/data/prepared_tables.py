"""Prepared tables of a data set, items and interactions, with the images of items, validated and checksummed.

``pmg-prepare`` converts every source of interactions to this form; nothing else reads publishers' files.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from pmg.cache import atomic_write_bytes, atomic_write_json
from pmg.configuration.ranges import Fraction
from pmg.data.dataset import ItemRows
from pmg.data.image_shards import FOLDER, PER_SHARD, STATE, Packing, PackingReport
from pmg.domain import Item, PmgError
from pmg.models.vision.pictures import FORMATS
from pmg.models.vision.pixels import from_uint8
from pmg.paths import display_path

ITEMS = ("id", "concept", "title", "keywords", "topic", "facts")
INTERACTIONS = ("user", "item", "action", "rating", "timestamp")
MANIFEST = "manifest.json"
NAMES = ("items.parquet", "interactions.parquet")
TIMES = (-9.2e9, 9.2e9)  # seconds since 1970 that pandas can represent; some sources write "never" as a date in 9999
NO_IMAGE = -1  # row number of items without an image


@dataclass
class Drops:
    """Rows that are left out: their number, and the first as text, by reason; and the number of unused items."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    unused: int = 0

    def add_line(self, reason: str, number: int, line: str) -> None:
        """Counts one line of a file that is read line by line; number 0: something that has no line."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.first.setdefault(reason, f"row {number}: {line[:80]}" if number else line[:80])

    def take(self, table: pd.DataFrame, bad: pd.Series, reason: str) -> pd.DataFrame:
        """Returns `table`, whose index holds row numbers of the file, without its `bad` rows, and counts them."""
        if len(rows := table[bad]):
            self.counts[reason] = self.counts.get(reason, 0) + len(rows)
            values = ", ".join(f"{name} {value}" for name, value in rows.iloc[0].items())
            self.first.setdefault(reason, f"row {rows.index[0]}: {values}")
        return table[~bad]


@dataclass(frozen=True)
class Tables:
    """A data set as a source returns it."""

    items: pd.DataFrame  # one row an item, columns `ITEMS`; keywords are lists, facts mappings of words
    interactions: pd.DataFrame  # one row an interaction, columns `INTERACTIONS`; rating is NaN beside a mere action
    drops: Drops  # rows that were left out
    files: Mapping[str, str]  # sha256 of the files that were read, by name
    pictures: Mapping[str, Path] | None = None  # paths of the items' published images, by id; None: there are none
    notes: Mapping[str, str] = field(default_factory=dict)  # remarks for the manifest, by name


def prepare(
    read: Callable[[], Tables], folder: str, max_dropped: Fraction = 0.01, pictures: Packing | None = None,
    max_missing_pictures: Fraction = 0.0,
) -> dict[str, Any]:  # fmt: skip
    """Reads a source, validates rows and images, and writes tables, images and manifest; returns counts.

    The `folder` gets ``items.parquet``, ``interactions.parquet`` and ``manifest.json``, each written atomically, and
    ``pictures/`` where the source has images. A share `max_dropped` of interactions may be left out, and a share
    `max_missing_pictures` of items may be without an image: they stay in histories and are no targets. PmgError if too
    many rows or images can't be used (how many, why, and the first of each reason), none is left, or `folder` holds
    files of these names that are not prepared data.
    """
    _refuse_foreign(Path(folder))
    tables = check(read())
    _refuse_dropped(tables, max_dropped)
    packing, packed = pictures or Packing(), PackingReport()
    if tables.pictures is not None:
        packed = packing.pack(tables.items["id"].tolist(), tables.pictures, Path(folder), max_missing_pictures)
    elif not Path(folder, STATE).exists():
        atomic_write_json(Path(folder, STATE), {})  # marks tables without a manifest as prepared data
    written = _write_tables(tables, packed, Path(folder))
    counts: dict[str, Any] = {
        "users": int(tables.interactions["user"].nunique()), "items": len(tables.items),
        "interactions": len(tables.interactions), "dropped": dict(tables.drops.counts),
        "items_without_interactions": tables.drops.unused,
    }  # fmt: skip
    about = {"first": {**tables.drops.first, **packed.first}, "sources": dict(tables.files), **tables.notes}
    if tables.pictures is not None:
        lists = {"pictures_left_out": dict(packed.left_out), "pictures_changed": dict(packed.changed)}
        counts |= {"pictures": len(packed.row), **lists}
        about["packing"] = {**asdict(packing), "per_shard": PER_SHARD}
    atomic_write_json(Path(folder, MANIFEST), {**counts, **about, "sha256": {**written, **packed.sha256}})
    return counts


def _refuse_foreign(folder: Path) -> None:
    """Checks that no file of the folder would be replaced that ``pmg-prepare`` did not write."""
    made = (folder / MANIFEST).is_file() or (folder / STATE).is_file()
    ours = [] if made else [folder / name for name in NAMES if (folder / name).exists()]
    pictures = [path for path in sorted((folder / FOLDER).glob("*")) if path.suffix != ".arrow"]
    for path in (*ours, *pictures):
        raise PmgError(
            f"{path} would be replaced, and pmg-prepare did not make it; prepare into another source.folder"
        )


def _refuse_dropped(tables: Tables, max_dropped: float) -> None:
    counts = {why: count for why, count in tables.drops.counts.items() if not why.startswith("is an item")}
    dropped, kept = sum(counts.values()), len(tables.interactions)
    if kept and dropped / (dropped + kept) <= max_dropped:
        return
    if not dropped + kept:
        raise PmgError(f"there are no interactions: {' and '.join(tables.files)} have no row with a user and an item")
    reasons = " · ".join(
        f"{count} x {why} (first: {tables.drops.first[why]})" for why, count in tables.drops.counts.items()
    )
    raise PmgError(
        f"{dropped} of {dropped + kept} rows can't be used, source.max_dropped allows {max_dropped:.0%}: {reasons}"
    )


def _write_tables(tables: Tables, packed: PackingReport, folder: Path) -> dict[str, str]:
    items = tables.items.assign(facts=tables.items["facts"].map(json.dumps))
    if tables.pictures is not None:
        rows = [packed.row.get(item, NO_IMAGE) for item in items["id"]]
        hashes = {"phash": packed.phash, "colours": packed.colours}
        columns = {name: [by_item.get(item, "") for item in items["id"]] for name, by_item in hashes.items()}
        items = items.assign(picture=rows, **columns)
    written = {}
    for name, table in zip(NAMES, (items, tables.interactions), strict=True):
        content = table.to_parquet(index=False, compression="zstd")
        atomic_write_bytes(folder / name, content)
        written[name] = sha256(content).hexdigest()
    return written


def check(tables: Tables) -> Tables:
    """Returns the tables without unused items, and without interactions that have no time or item or repeat one."""
    items, rows, drops = tables.items, tables.interactions, tables.drops
    rows = drops.take(rows, rows["timestamp"].isna(), "has no timestamp")
    rows = drops.take(rows, ~rows["timestamp"].between(*TIMES), "has a time outside of the years 1678 to 2261")
    rows = drops.take(rows, ~rows["item"].isin(items["id"]), "names an item that the items lack")
    rows = drops.take(rows, rows.duplicated(list(INTERACTIONS)), "repeats an earlier row")
    rows = rows.sort_values(["user", "timestamp"], kind="stable").astype({"timestamp": "int64"})  # whole seconds
    used = items[items["id"].isin(rows["item"])]
    drops.unused = len(items) - len(used)
    return replace(tables, items=used.reset_index(drop=True), interactions=rows.reset_index(drop=True))


def load(folder: str, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the prepared tables, items and interactions, verified; PmgError if a file is missing or damaged."""
    expected = read_manifest(folder, name)["sha256"]
    items, interactions = (_read(Path(folder, file), expected[file], name) for file in NAMES)
    if "phash" in items and "colours" not in items:  # by which copies are found
        raise PmgError(
            f"{folder} was prepared by an earlier version of pmg: its items have no column 'colours'. "
            f"Prepare it again: pmg-prepare data={name}"
        )
    return items.assign(facts=items["facts"].map(json.loads)), interactions


def read_manifest(folder: str, name: str) -> dict[str, Any]:
    """Returns the manifest of prepared data; PmgError if it is missing or damaged."""
    path = Path(folder, MANIFEST)
    if not path.is_file():
        raise PmgError(f"{display_path(path)} is missing; make it first: pmg-prepare data={name}")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        manifest: dict[str, Any] = json.loads(path.read_text())
        if set(NAMES) <= set(manifest["sha256"]):
            return manifest
    raise PmgError(f"{display_path(path)} is damaged; make it again: pmg-prepare data={name}")


def _read(path: Path, expected: str, name: str) -> pd.DataFrame:
    content = path.read_bytes() if path.is_file() else b""
    if sha256(content).hexdigest() != expected:
        raise PmgError(
            f"{display_path(path)} is missing or not what its manifest says; make it again: pmg-prepare data={name}"
        )
    return pd.read_parquet(io.BytesIO(content))


def as_rows(columns: Sequence[str], **values: Any) -> pd.DataFrame:
    """Returns a table of `columns` in their order."""
    return pd.DataFrame(values)[list(columns)]


class PreparedImages(ItemRows):
    """An `ImageStore` of the packed images of prepared data; `items` are in the order of their rows.

    A shard's `sha256`, by its path in `folder`, is verified when it is first opened; errors name `remake`, the
    command that prepares the data.
    """

    missing = "item '{item.id}' of {store.folder} has no picture; ask for items that have one"

    def __init__(self, folder: Path, items: Sequence[Item], size: int, sha256: Mapping[str, str], remake: str) -> None:
        super().__init__(items)
        self.folder, self.size, self.sha256, self.remake = folder, size, dict(sha256), remake
        self._shards: dict[int, pa.ChunkedArray] = {}

    @classmethod
    def load(cls, folder: str, name: str, table: pd.DataFrame, items: Mapping[str, Item]) -> PreparedImages | None:
        """Opens the images of prepared data; None where the data have none."""
        manifest = read_manifest(folder, name)
        if "packing" not in manifest:
            return None
        with_image = table[table["picture"] != NO_IMAGE].sort_values("picture")
        chosen, remake = [items[item] for item in with_image["id"]], f"pmg-prepare data={name}"
        return cls(Path(folder), chosen, manifest["packing"]["size"], manifest["sha256"], remake)

    def pixels(self, rows: Tensor) -> Tensor:
        """Returns images of `rows`, float32 `(B, 3, H, W)` in [-1, 1]; PmgError if a shard is missing or damaged."""
        images = np.array([self._decode(row) for row in rows.tolist()], np.uint8)
        return from_uint8(torch.from_numpy(images).view(len(rows), self.size, self.size, 3).permute(0, 3, 1, 2))

    def _decode(self, row: int) -> np.ndarray:
        shard, place = divmod(row, PER_SHARD)
        if shard not in self._shards:
            self._shards[shard] = self._open(shard)
        with Image.open(io.BytesIO(self._shards[shard][place].as_buffer()), formats=FORMATS) as image:
            return np.array(image)

    def _open(self, shard: int) -> pa.ChunkedArray:
        name = f"{FOLDER}/{shard:05d}.arrow"
        path = self.folder / name
        if not path.is_file() or sha256(path.read_bytes()).hexdigest() != self.sha256[name]:
            raise PmgError(f"{path} is missing or not what its manifest says; make it again: {self.remake}")
        with pa.memory_map(str(path)) as mapped:
            return pa.ipc.open_file(mapped).read_all()["image"]
