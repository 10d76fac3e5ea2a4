"""Grids of the images that a run made, a user a row and a method a column, each with its record."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pmg.generation.records import Record
from pmg.reporting.artifacts import Artifacts
from pmg.reporting.runs import RunFolder, progress

SIDE = 96  # pixels of the longer side of a thumbnail
QUALITY = 82  # of its WebP
MOST_USERS = 8  # of one run
BUDGET = 900  # images of all runs together, so that the page stays below some 5 MB


@dataclass(frozen=True)
class Sample:
    """One image.

    Attributes:
        image: as a data URI; empty where the file can't be read.
        title: what it shows, for whom, by which method.
        facts: how it was made, by name.
    """

    image: str
    title: str
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Grid:
    """Samples of one run.

    Attributes:
        name: of the run.
        methods: the columns.
        rows: for each example its target, and its samples by method.
    """

    name: str
    methods: tuple[str, ...]
    rows: tuple[tuple[str, Mapping[str, Sample]], ...]


def build_grids(runs: Sequence[RunFolder], artifacts: Artifacts) -> list[Grid]:
    """Samples of every run that has some."""
    methods = max((len({r.method for r in records}) for _, records in artifacts.records.values()), default=1)
    users = users_of_each(len(artifacts.records), methods)
    found = progress(list(artifacts.records.items()), "Collecting samples")
    return [build_grid(runs[number].name, folder, records, users) for number, (folder, records) in found]


def build_grid(name: str, folder: Path, records: Sequence[Record], users: int) -> Grid:
    """The first examples of a run, one a user; the choice looks at no result."""
    own = [record for record in records if record.control == "own"]
    first: dict[str, str] = {}
    for record in own:
        first.setdefault(record.user, record.example)
    chosen = list(first.values())[:users]
    cells = {(record.example, record.method): record for record in reversed(own) if record.example in chosen}
    methods = tuple(dict.fromkeys(record.method for record in own))
    rows = []
    for example in chosen:
        found = {method: cells[example, method] for method in methods if (example, method) in cells}
        asked = ", ".join(next(iter(found.values())).target_keywords[:2]) or example
        rows.append((asked, {method: build_sample(folder, record) for method, record in found.items()}))
    return Grid(name, methods, tuple(rows))


def users_of_each(runs: int, methods: int) -> int:
    """How many users of each run the page has room for."""
    return max(1, min(MOST_USERS, BUDGET // max(1, runs * methods)))


def build_sample(folder: Path, record: Record) -> Sample:
    """Thumbnail and facts of a record."""
    asked = ", ".join(record.target_keywords[:2]) or record.example
    return Sample(_thumbnail(folder / record.image), f"{asked} for {record.user} by {record.method}", facts(record))


def facts(record: Record) -> dict[str, str]:
    """How an image was made, by name, without what is empty."""
    chosen = record.chosen
    scores = {"d_p": chosen.preference, "d_t": chosen.accuracy, "z": chosen.z}
    named = {
        "example": record.example,
        "user": record.user,
        "method": record.method,
        "target": ", ".join(record.target_keywords),
        "preference": ", ".join(record.preference_keywords),
        "avoided": ", ".join(record.negative_keywords),
        "left out": ", ".join(record.dropped_keywords),
        "weights": f"w_p {chosen.w_p:g}, w_t {chosen.w_t:g}",
        "scores": ", ".join(f"{name} {score:.3f}" for name, score in scores.items() if score is not None),
        "alpha": f"{record.alpha:g}" if chosen.preference is not None else "",
        "candidates": f"{len(record.candidates)}, {len(record.front)} on the Pareto front" if record.front else "",
        "seed": str(record.seed),
        "image": record.image,
    }
    return {name: text for name, text in named.items() if text}


def _thumbnail(path: Path) -> str:
    try:
        with Image.open(path) as image:
            small = image.convert("RGB")
    except (OSError, SyntaxError):  # a broken PNG chunk is a SyntaxError to Pillow
        return ""
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, format="WEBP", quality=QUALITY)
    return data_uri(buffer.getvalue(), "image/webp")


def data_uri(content: bytes, kind: str) -> str:
    """A file as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
