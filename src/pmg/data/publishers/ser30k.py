"""Stickers in themes (SER30K): one folder of images a theme, with annotations.

SER30K has no users. A theme has one style, so there is one pseudo user a theme, ``theme:NAME``, who "likes" its
stickers in the order of their names: results measure the consistency with a theme's style, not personal taste. The
manifest states this (``users_are``). ``all_annos.json`` has a list ``annotations`` of ``topic`` (the folder),
``file_name``, ``text`` (what is written in the picture) and ``anno``, an emotion as a number from 1 to 7 (its
``categories``, where they are a mapping, must agree with the words that the config gives these numbers); a CSV file
may have the columns ``topic``, ``file_name``, ``text`` and ``emotion``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pmg.configuration.instantiate import nearest
from pmg.data.image_files import ENDINGS, picture_folder
from pmg.data.prepared_tables import INTERACTIONS, ITEMS, Drops, Tables, as_rows
from pmg.data.published_files import read_table
from pmg.domain import UNKNOWN, PmgError
from pmg.paths import natural_key
from pmg.runs.content import digest_file

WHERE = "ask for it at https://github.com/nku-shengzheliu/SER30K"
USERS_ARE = "themes: one pseudo user a theme, who likes its stickers in the order of their names; no personal taste"
COLUMNS = ("topic", "file_name", "text", "emotion")
NO_FACTS = {"emotion": UNKNOWN, "text": "none"}


class Stickers:
    """Reads stickers into tables.

    `images` has a folder a theme; `annotations` is a .json file in SER30K's form or a .csv file, None where there is
    none. `emotions` has the word of each of SER30K's numbers, e.g. ``{1: "anger"}``; a .csv file has words.
    """

    def __init__(self, images: str, annotations: str | None, emotions: Mapping[int, str]) -> None:
        self.images, self.annotations = images, annotations
        self.emotions = {str(number): word for number, word in emotions.items()}

    def __call__(self) -> Tables:
        """Returns themes and stickers; PmgError if a file is missing or damaged, or an emotion has no word."""
        drops, folder = Drops(), picture_folder(self.images, WHERE)
        facts, files = self._facts()
        found = _find(folder, drops)
        names = sorted({*found, *facts}, key=natural_key)
        themes = [name.partition("/")[0] for name in names]
        items = as_rows(
            ITEMS, id=names, concept=names, title=[_title(theme) for theme in themes],
            keywords=[[facts[name]["emotion"]] if name in facts else [] for name in names],
            topic=themes, facts=[facts.get(name, NO_FACTS) for name in names],
        )  # fmt: skip
        interactions = as_rows(
            INTERACTIONS, user="theme:" + items["topic"], item=names, action="sent", rating=np.nan,
            timestamp=items.groupby("topic").cumcount(),
        )  # fmt: skip
        return Tables(items, interactions, drops, files, {i: folder / i for i in names}, {"users_are": USERS_ARE})

    def _facts(self) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
        """Returns emotion and text by ``THEME/FILE``, and the checksum of the annotation file."""
        if self.annotations is None:
            return {}, {}
        path = Path(self.annotations)
        if not path.is_file():
            raise PmgError(f"{path} is no file of annotations; {WHERE}, or set source.read.annotations=null")
        rows = self._json(path) if path.suffix == ".json" else _csv(path)
        facts = {
            f"{row['topic']}/{row['file_name']}": {"emotion": row["emotion"], "text": row["text"] or NO_FACTS["text"]}
            for row in rows
        }
        return facts, {path.name: digest_file(path)}

    def _json(self, path: Path) -> list[dict[str, Any]]:
        try:
            content = json.loads(path.read_bytes().decode())
            listed = content["annotations"]
            rows = [{**row, "text": row.get("text", "").strip(), "anno": str(row["anno"])} for row in listed]
            wrong = next((row for row in rows if not {"topic", "file_name"} <= row.keys()), None)
        except UnicodeDecodeError as error:
            raise PmgError(f"{path} is not UTF-8 (byte {error.start}); {WHERE}") from None
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            expected = "list of annotations with topic, file_name, anno"
            raise PmgError(f"{path} has no {expected} ({error!r}); {WHERE}") from None
        if wrong:
            raise PmgError(f"{path}: the annotation {wrong} has no topic or no file_name; {WHERE}")
        self._compare(path, content.get("categories"))
        if unknown := [row["anno"] for row in rows if row["anno"] not in self.emotions]:
            hint = nearest(unknown[0], self.emotions)
            raise PmgError(f"source.read.emotions has no word for '{unknown[0]}'{hint}")
        return [{**row, "emotion": self.emotions[row["anno"]]} for row in rows]

    def _compare(self, path: Path, categories: object) -> None:
        """Checks that the config's words equal those in the file, which maps numbers to words or the reverse."""
        for pair in categories.items() if isinstance(categories, Mapping) else ():
            number, word = pair if str(pair[0]) in self.emotions else reversed(pair)
            ours = self.emotions.get(str(number))
            if ours and str(word).lower() != ours.lower():
                raise PmgError(f"{path} calls emotion {number} '{word}', source.read.emotions '{ours}': set it right")


def _csv(path: Path) -> list[dict[str, Any]]:
    table = read_table(path.read_bytes(), str(path), COLUMNS, WHERE)
    nameless = table[["topic", "file_name"]].isna().any(axis=1)
    if nameless.any():
        raise PmgError(f"{path}: row {nameless.idxmax()} has no topic or no file_name")
    table["emotion"] = table["emotion"].fillna(UNKNOWN)
    return table.fillna("").to_dict("records")


def _find(folder: Path, drops: Drops) -> set[str]:
    """Returns the images as ``THEME/FILE``; counts other files as dropped."""
    found = set()
    for path in sorted(folder.glob("*/*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() in ENDINGS:
            found.add(name)
        else:
            drops.add_line("is no picture by its name", 0, name)
    return found


def _title(theme: str) -> str:
    """``"01-panda-bear"`` -> ``"panda bear"``."""
    return re.sub(r"[-_\s]+", " ", re.sub(r"^\d+[-_\s]+", "", theme)).strip()
