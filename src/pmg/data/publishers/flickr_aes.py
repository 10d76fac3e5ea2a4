"""FLICKR-AES: photos rated from 1 to 5 by 210 workers, read from the authors' files.

``FLICKR-AES_image_labeled_by_each_worker.csv`` has the columns ``worker, imagePair, score`` (with those spaces);
``imagePair`` is the name of one file of the folder ``40K``. There are no timestamps: the row number is used.
Photos have no title: the title of all is "photo".
"""

from __future__ import annotations

from hashlib import sha256

import pandas as pd

from pmg.data.image_files import picture_folder
from pmg.data.prepared_tables import INTERACTIONS, ITEMS, Drops, Tables, as_rows
from pmg.data.published_files import read_files, read_table

FILE = "FLICKR-AES_image_labeled_by_each_worker.csv"
COLUMNS = ("worker", "imagePair", "score")
WHERE = "get it from https://github.com/alanspike/personalizedImageAesthetics"


class FlickrAes:
    """Reads FLICKR-AES into tables, of the folder or .zip with the workers' ratings and the images' folder ``40K``."""

    def __init__(self, source: str, images: str) -> None:
        self.source, self.images = source, images

    def __call__(self) -> Tables:
        """Returns the tables of ratings and photos.

        PmgError if the file or the folder is missing, or the file is damaged or has other columns.
        """
        drops = Drops()
        content = read_files(self.source, [FILE], WHERE)[FILE]
        rows = read_table(content, f"{self.source}/{FILE}", COLUMNS, WHERE)[list(COLUMNS)]
        rows = rows.apply(lambda column: column.str.strip())
        scores = pd.to_numeric(rows["score"], errors="coerce")
        rows = drops.take(rows, ~scores.between(1, 5), "has no score from 1 to 5")
        rows = drops.take(rows, rows["worker"].isna() | rows["imagePair"].isna(), "lacks a worker or a photo")
        rows = drops.take(rows, rows.duplicated(), "repeats an earlier row")
        ratings = pd.to_numeric(rows["score"])
        folder = picture_folder(self.images, WHERE)
        ids = rows["imagePair"].drop_duplicates().tolist()
        items = as_rows(
            ITEMS, id=ids, concept=ids, title="photo", keywords=[[] for _ in ids], topic="", facts=[{} for _ in ids]
        )
        interactions = as_rows(
            INTERACTIONS, user=rows["worker"], item=rows["imagePair"],
            action="rated " + ratings.map("{:g}".format), rating=ratings, timestamp=rows.index,
        )  # fmt: skip
        return Tables(items, interactions, drops, {FILE: sha256(content).hexdigest()}, {i: folder / i for i in ids})
