"""Your own data: items and interactions as .csv, .jsonl or .parquet, or items as a Hugging Face imagefolder.

docs/own_data.md has the schema. Missing facts of an item become "unknown".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Number
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pmg.configuration.instantiate import nearest
from pmg.data.prepared_tables import INTERACTIONS, ITEMS, Drops, Tables, as_rows
from pmg.data.published_files import read_rows
from pmg.domain import UNKNOWN, PmgError
from pmg.runs.content import digest_file

WHERE = "docs/own_data.md has the schema"
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE_NAME = "file_name"  # an imagefolder's column of image paths
ITEM_COLUMNS = ("id", "title", "keywords", "topic", "image")
ACTION = "chose"


class OwnFiles:
    """Reads your own files into tables; PmgError if a key is no column of the schema.

    Args:
        items: a .csv, .jsonl or .parquet file, or an imagefolder with a file ``metadata`` in one of these formats.
        interactions: a .csv, .jsonl or .parquet file.
        images: the folder that image paths are relative to; None: that of the items.
        item_columns: the file's names for ``id``, ``title``, ``keywords``, ``topic``, ``image``; equal names may be
            left out. The last three may be missing, and are not read if None.
        interaction_columns: the file's names for ``user``, ``item``, ``action``, ``rating``, ``timestamp``; the last
            three are optional likewise.
    """

    def __init__(
        self, items: str, interactions: str, images: str | None, item_columns: Mapping[str, str | None],
        interaction_columns: Mapping[str, str | None],
    ) -> None:  # fmt: skip
        self.items, self.interactions, self.images = Path(items), Path(interactions), images
        self.item_columns = _check_columns("item_columns", item_columns, ITEM_COLUMNS)
        self.interaction_columns = _check_columns("interaction_columns", interaction_columns, INTERACTIONS)

    def __call__(self) -> Tables:
        """Reads items and interactions; PmgError if a file is missing, damaged or lacks a column."""
        drops, path = Drops(), self._items_file()
        table = read_rows(path, WHERE)
        columns = dict(self.item_columns)
        if self.items.is_dir() and FILE_NAME in table:
            columns |= {name: FILE_NAME for name in ("id", "image") if columns[name] and columns[name] not in table}
        names = _found(table, path, "item_columns", columns, ("id", "title"))
        required = [names["id"], names["title"]]
        table = _with_text(table, required)
        table = drops.take(table, table[required].isna().any(axis=1), "is an item without id or title")
        table = drops.take(table, table[names["id"]].duplicated(), "is an item that repeats an earlier id")
        interactions = self._interactions(drops)
        files = {file.name: digest_file(file) for file in (path, self.interactions)}
        return Tables(_items(table, names), interactions, drops, files, self._pictures(table, names, path.parent))

    def _items_file(self) -> Path:
        if not self.items.is_dir():
            return self.items
        found = [self.items / name for name in METADATA if (self.items / name).is_file()]
        if len(found) != 1:
            raise PmgError(f"{self.items} has {len(found)} of {', '.join(METADATA)}, one is needed; {WHERE}")
        return found[0]

    def _pictures(self, table: pd.DataFrame, names: Mapping[str, str], folder: Path) -> dict[str, Path] | None:
        if "image" not in names and self.images:
            raise PmgError(f"source.read.images={self.images}, and {self.items} has no column of pictures: name it")
        if "image" not in names:
            return None
        base = Path(self.images) if self.images else folder
        pairs = table[[names["id"], names["image"]]].dropna().to_numpy().tolist()
        if wrong := next((type(image).__name__ for _, image in pairs if not isinstance(image, (str, Number))), None):
            raise PmgError(f"{self.items}: column {names['image']} holds {wrong}: write pictures as files, name those")
        return {item: base / str(image) for item, image in pairs}

    def _interactions(self, drops: Drops) -> pd.DataFrame:
        table = read_rows(self.interactions, WHERE)
        names = _found(table, self.interactions, "interaction_columns", self.interaction_columns, ("user", "item"))
        table = table[list(names.values())].set_axis(list(names), axis=1)
        table = _with_text(table, [name for name in ("user", "item", "action") if name in table])
        table = drops.take(table, table[["user", "item"]].isna().any(axis=1), "lacks a user or an item")
        given = table.get("rating", pd.Series(np.nan, table.index))
        ratings = pd.to_numeric(given, errors="coerce").replace([np.inf, -np.inf], np.nan)
        wrong = ratings.isna() & given.notna()
        table = drops.take(table.assign(rating=given.where(wrong, ratings)), wrong, "has a rating that is no number")
        if "timestamp" not in table:  # rows in order; without times a second equal row says nothing new
            table = drops.take(table, table.duplicated(), "repeats an earlier row")
            table = table.assign(timestamp=range(len(table)))
        seconds = _seconds(table["timestamp"])
        wrong = seconds.isna() & table["timestamp"].notna()
        table = drops.take(table, wrong, "has a timestamp that is neither seconds nor ISO 8601, e.g. 2024-12-31")
        actions = table["action"].fillna(ACTION) if "action" in table else ACTION
        return as_rows(
            INTERACTIONS, user=table["user"], item=table["item"], action=actions,
            rating=table["rating"].astype(float), timestamp=seconds[table.index],
        )  # fmt: skip


def _check_columns(key: str, given: Mapping[str, str | None], known: Sequence[str]) -> dict[str, str | None]:
    """Returns the configured column names by those of the schema."""
    if unknown := [name for name in given if name not in known]:
        hint = nearest(unknown[0], known)
        raise PmgError(f"source.read.{key} knows no '{unknown[0]}'{hint} (known: {', '.join(known)})")
    return {name: given.get(name, name) for name in known}


def _found(
    table: pd.DataFrame, path: Path, key: str, names: Mapping[str, str | None], needed: Sequence[str]
) -> dict[str, str]:
    """Returns the columns of `names`, which `key` of the config gives, that the table has.

    PmgError if it lacks one that is needed or that the config renames.
    """
    for name in needed:
        if names[name] is None:
            raise PmgError(f"source.read.{key}.{name} is null, and every table needs one: name its column")
    chosen = {name: column or name for name, column in names.items() if name in needed or (column or name) != name}
    for name, column in chosen.items():
        if column not in table:
            raise PmgError(
                f"{path} has no column {column} for {name}: name it, source.read.{key}.{name}=COLUMN; it has "
                f"{', '.join(map(str, table.columns))}"
            )
    return {name: column for name, column in names.items() if column is not None and column in table}


def _with_text(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Returns the table with stripped text in `columns`; empty text becomes missing."""
    return table.assign(**{name: table[name].map(_text) for name in dict.fromkeys(columns)})


def _text(value: Any) -> str | None:
    """Returns a value as stripped text; whole floats as integers: ids beside missing values are read as floats."""
    if isinstance(value, bytes):  # a binary column of Parquet
        return value.decode("utf-8", "replace").strip() or None
    if isinstance(value, float):
        value = None if np.isnan(value) else int(value) if value.is_integer() else value
    return None if value is None else str(value).encode("utf-8", "replace").decode().strip() or None


def _items(table: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    others = [name for name in table.columns if name not in names.values()]
    facts = [
        {str(name): _text(value) or UNKNOWN for name, value in zip(others, row, strict=True)}
        for row in table[others].to_numpy().tolist()
    ]
    keywords = table[names["keywords"]].map(_words) if "keywords" in names else [[] for _ in range(len(table))]
    topics = table[names["topic"]].map(lambda value: _text(value) or "") if "topic" in names else ""
    ids = table[names["id"]]
    return as_rows(
        ITEMS, id=ids, concept=ids, title=table[names["title"]], keywords=keywords, topic=topics, facts=facts
    ).reset_index(drop=True)


def _words(value: Any) -> list[str]:
    """Returns keywords from a list, or from text that separates them by ``|``."""
    parts = list(value) if isinstance(value, (list, tuple)) else (_text(value) or "").split("|")
    return [word for word in map(_text, parts) if word]


def _seconds(values: pd.Series) -> pd.Series:
    """Returns seconds since 1970 from numbers, dates or ISO 8601 text; NaN where a value is none of these."""
    plain = values.map(lambda value: value if isinstance(value, (Number, str)) else None)
    numbers = pd.to_numeric(plain, errors="coerce")
    rest = values[numbers.isna() & values.notna()].astype(str)
    dates = pd.to_datetime(rest, utc=True, errors="coerce", format="ISO8601")
    seconds = (dates - pd.Timestamp(0, tz="UTC").as_unit("us")).dt.total_seconds()  # nanoseconds end in 2262
    return numbers.astype(float).fillna(seconds)
