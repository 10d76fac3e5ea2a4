"""Alibaba iFashion (POG, KDD 2019): clicks on garments, and the outfit that was clicked next.

The files have no header and ids of letters and digits: ``item_data.txt`` has ``item_id,cate_id,pic_url,title`` (the
title is Chinese and may hold commas), ``user_data.txt`` has ``user_id,item_id;item_id;...,outfit_id``, and
``outfit_data.txt`` has ``outfit_id,item_id;item_id;...``. There are no timestamps: a click's position among
those of its user is used. Images are URLs only; supply a folder of them, with the items' ids as file names.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pmg.configuration.ranges import Count
from pmg.data.image_files import find_pictures
from pmg.data.prepared_tables import ITEMS, Drops, Tables
from pmg.data.published_files import read_lines
from pmg.runs.content import digest_file

WHERE = "get it from https://github.com/wenyuer/POG"
ITEM_FILE, USER_FILE, OUTFIT_FILE = "item_data.txt", "user_data.txt", "outfit_data.txt"


class Pog:
    """Reads iFashion into tables, from folders of the publisher's text files and of images.

    `users` is the number of users from the file's beginning; None: all, with 0.28 billion clicks. With `outfits` the
    garments of a clicked outfit are appended to its user's clicks.
    """

    def __init__(self, source: str, images: str, users: Count | None = None, outfits: bool = False) -> None:
        self.source, self.images, self.users, self.outfits = Path(source), images, users, outfits

    def __call__(self) -> Tables:
        """Reads clicks, and the items that they name; PmgError if a file is missing or is not UTF-8."""
        drops = Drops()
        lines = self._user_lines(drops)
        outfits = self._outfits({outfit for _, _, outfit in lines}, drops) if self.outfits else {}
        rows: list[tuple[str, str, str]] = []
        for user, clicked, outfit in lines:
            rows += [(user, item, "clicked") for item in clicked]
            rows += [(user, item, "clicked in an outfit") for item in outfits.get(outfit, ())]
        table = pd.DataFrame(rows, columns=["user", "item", "action"])
        interactions = table.assign(rating=np.nan, timestamp=table.groupby("user").cumcount())
        items = self._items(set(interactions["item"]), drops)
        found = find_pictures(self.images, "it should hold a picture an item, named by its id, from its pic_url")
        names = (ITEM_FILE, USER_FILE, OUTFIT_FILE) if self.outfits else (ITEM_FILE, USER_FILE)
        files = {name: digest_file(self.source / name) for name in names}
        return Tables(items, interactions, drops, files, {i: found[i] for i in items["id"] if i in found})

    def _user_lines(self, drops: Drops) -> list[tuple[str, list[str], str]]:
        """(user, clicked items, clicked outfit) of each line of the first users."""
        users: set[str] = set()
        lines: list[tuple[str, list[str], str]] = []
        for number, line in read_lines(self.source / USER_FILE, WHERE):
            fields = line.split(",")
            if len(fields) != 3 or not fields[0]:
                drops.add_line(f"is a line of {USER_FILE} without its 3 fields", number, line)
            elif fields[0] in users or self.users is None or len(users) < self.users:
                users.add(fields[0])
                lines.append((fields[0], _ids(fields[1]), fields[2]))
        return lines

    def _outfits(self, wanted: Collection[str], drops: Drops) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for number, line in read_lines(self.source / OUTFIT_FILE, WHERE):
            outfit, comma, items = line.partition(",")
            if not comma:
                drops.add_line(f"is a line of {OUTFIT_FILE} without its 2 fields", number, line)
            elif outfit in wanted:
                found[outfit] = _ids(items)
        for outfit in sorted(wanted - found.keys()):
            drops.add_line(f"is a clicked outfit that {OUTFIT_FILE} lacks", 0, outfit)
        return found

    def _items(self, wanted: Collection[str], drops: Drops) -> pd.DataFrame:
        """Returns the items that were clicked, of the file's millions."""
        rows: dict[str, dict[str, Any]] = {}
        for number, line in read_lines(self.source / ITEM_FILE, WHERE):
            item, *fields = line.split(",", 3)
            if item not in wanted:
                continue
            if len(fields) < 3 or not fields[2].strip():
                drops.add_line(f"is a line of {ITEM_FILE} without its 4 fields", number, line)
            elif item in rows:
                drops.add_line("is an item that repeats an earlier id", number, line)
            else:
                rows[item] = {
                    "id": item, "concept": item, "title": fields[2].strip(), "keywords": [], "topic": fields[0],
                    "facts": {"category": fields[0]},
                }  # fmt: skip
        return pd.DataFrame(rows.values(), columns=list(ITEMS))


def _ids(text: str) -> list[str]:
    return [part for part in text.split(";") if part]
