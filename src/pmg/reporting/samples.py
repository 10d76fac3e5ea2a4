"""Grids of the images that a run made, a user a row and a method a column, each with its record."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from pmg.api.output import draw_grid
from pmg.configuration.instantiate import instantiate
from pmg.data.dataset import Dataset
from pmg.domain import Example, Item, PmgError
from pmg.models.vision.pictures import FORMATS, data_uri, to_file, to_picture
from pmg.records.storage import Record
from pmg.reporting.artifacts import Artifacts
from pmg.reporting.runs import LOADER, RunFolder, progress
from pmg.reporting.variants import Factors, short
from pmg.runs.run_folder import CONFIG_FILE

SHOWN = 6  # latest liked items of a history
COLUMNS = 3
TILE = 48  # pixels of a side of a history's image
SIDE = 96  # pixels of the longer side of a thumbnail
QUALITY = 82  # of its WebP
MOST_USERS = 8  # of one run
BUDGET = 900  # images of all runs together, so that the page stays below some 5 MB


@dataclass(frozen=True)
class Reference:
    """What an example shows beside its samples; images are data URIs, empty where there are none."""

    history: str = ""  # the latest liked images, in a grid
    truth: str = ""  # the true image
    titles: str = ""  # of the history, for readers who don't see the images


class ReferenceReader:
    """Reads references of runs; runs with equal data and counts share what is read."""

    def __init__(self) -> None:
        self._data: dict[str, tuple[Dataset, dict[str, Example]] | None] = {}

    def find(self, folder: Path, names: Iterable[str]) -> dict[str, Reference]:
        """Returns the references of examples by name; none where the data set of the run can't be read any more."""
        try:
            config = yaml.load((folder / CONFIG_FILE).read_text(), LOADER)
            key = json.dumps([config[name] for name in ("data", "split", "split_sizes", "targets")], sort_keys=True)
            if key not in self._data:
                self._data[key] = None
                self._data[key] = _read(config)
            if (found := self._data[key]) is None:
                return {}
            latest = (config.get("history_items") or {}).get(config["split"])
            return {name: _reference(*found, name, latest) for name in names if name in found[1]}
        except (PmgError, OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
            return {}


def _read(config: Mapping[str, Any]) -> tuple[Dataset, dict[str, Example]]:
    data: Dataset = instantiate(config["data"])
    split = config["split"]
    examples = data.examples(split, config["split_sizes"][split], config["targets"][split])
    return data, {example.id: example for example in examples}


def _reference(data: Dataset, examples: Mapping[str, Example], name: str, latest: int | None) -> Reference:
    example = examples[name]
    history = example.history[-latest:] if latest else example.history
    liked = [one.item for one in history if one.liked][-SHOWN:]
    truth, tiles = _pictures(data, example.truth[:1]), [one.resize((TILE, TILE)) for one in _pictures(data, liked)]
    titles = "history: " + ", ".join(item.title for item in liked)
    return Reference(_encode(draw_grid(tiles, COLUMNS)) if tiles else "", _encode(truth[0]) if truth else "", titles)


def _pictures(data: Dataset, items: Sequence[Item]) -> list[Image.Image]:
    store = data.images
    having = [item for item in items if store.has(item)]
    return [to_picture(pixels) for pixels in store.pixels(store.rows(having))] if having else []


@dataclass(frozen=True)
class Sample:
    """One image as a data URI, empty where the file can't be read, with a title and facts about how it was made."""

    image: str
    title: str
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Row:
    """The samples of one example."""

    target: str  # what was generated
    user: str  # for whom
    beside: Reference  # what is shown beside them; empty where it can't be read
    samples: Mapping[str, Sample]  # by method


@dataclass(frozen=True)
class Grid:
    """Samples of one run: a row an example, a column a method."""

    name: str
    methods: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def has_references(self) -> bool:
        """Whether a row has a history or a true image."""
        return any(row.beside.history or row.beside.truth for row in self.rows)


def build_grids(runs: Sequence[RunFolder], artifacts: Artifacts, factors: Factors) -> list[Grid]:
    """Samples of every run that has some."""
    methods = max((len({r.method for r in records}) for _, records in artifacts.records.values()), default=1)
    images = max(1, len(artifacts.records) * (methods + 2))  # of a user of each run: history and truth, too
    users = max(1, min(MOST_USERS, BUDGET // images))
    found = progress(list(artifacts.records.items()), "Collecting samples")
    references = ReferenceReader()
    return [
        build_grid(_title(runs[number], factors), folder, records, users, references)
        for number, (folder, records) in found
    ]


def _title(run: RunFolder, factors: Factors) -> str:
    """Returns a run's name and the values by which it differs from the others."""
    pairs = zip(factors.chosen, factors.values(run), strict=True)
    return ": ".join(filter(None, (run.name, ", ".join(f"{short(key)} = {value}" for key, value in pairs))))


def build_grid(name: str, folder: Path, records: Sequence[Record], users: int, references: ReferenceReader) -> Grid:
    """The first examples of a run, one a user; the choice looks at no result."""
    own = [record for record in records if record.control == "own"]
    first: dict[str, str] = {}
    for record in own:
        first.setdefault(record.user, record.example)
    chosen = list(first.values())[:users]
    cells = {(record.example, record.method): record for record in reversed(own) if record.example in chosen}
    methods = tuple(dict.fromkeys(record.method for record in own))
    shown = references.find(folder, chosen)
    rows = []
    for example in chosen:
        found = {method: cells[example, method] for method in methods if (example, method) in cells}
        record = next(iter(found.values()))
        asked = ", ".join(record.target_keywords[:2]) or example
        samples = {
            method: Sample(
                _thumbnail(folder / made.image, made.sha256), f"{asked} for {record.user} by {method}", facts(made)
            )
            for method, made in found.items()
        }
        rows.append(Row(asked, record.user, shown.get(example, Reference()), samples))
    return Grid(name, methods, tuple(rows))


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


def _thumbnail(path: Path, expected: str) -> str:
    """Returns a picture as a data URI; empty for one that can't be read, or isn't the one that was made."""
    try:
        content = path.read_bytes()
        if sha256(content).hexdigest() != expected:
            return ""
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            small = image.convert("RGB")
    except (OSError, SyntaxError):  # a broken PNG chunk is a SyntaxError to Pillow
        return ""
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return _encode(small)


def _encode(image: Image.Image) -> str:
    """An image as a data URI; it is reduced to the height of a thumbnail."""
    small = image.copy()
    small.thumbnail((2 * SIDE, SIDE), Image.Resampling.LANCZOS)
    return data_uri(to_file(small, "WEBP", quality=QUALITY), "image/webp")
