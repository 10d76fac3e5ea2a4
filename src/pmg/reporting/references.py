"""Histories and true images that a report shows beside samples, read from the data set of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from pmg.configuration.instantiate import instantiate
from pmg.data.dataset import Dataset
from pmg.domain import Example, Item, PmgError
from pmg.models.vision.pictures import to_picture
from pmg.reporting.runs import LOADER
from pmg.runs.run_folder import CONFIG_FILE

SHOWN = 6  # latest liked items of a history
COLUMNS = 3
TILE = 48  # pixels of a side of a history's image


@dataclass(frozen=True)
class Reference:
    """What an example shows beside its samples.

    Attributes:
        history: the latest liked images in a grid; None without images.
        truth: the true image; None without one.
        titles: of the history's items, for readers who don't see the images.
    """

    history: Image.Image | None
    truth: Image.Image | None
    titles: str


class References:
    """Reads references of runs; runs with equal data and counts share what is read."""

    def __init__(self) -> None:
        self._data: dict[str, tuple[Dataset, dict[str, Example]] | None] = {}

    def find(self, folder: Path, names: Iterable[str]) -> dict[str, Reference]:
        """Returns the references of examples by name; none where the data set of the run can't be read any more.

        Args:
            folder: of the ``pmg-generate`` run.
            names: of examples.
        """
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
    """Returns the data set of a config, and its examples by name."""
    data: Dataset = instantiate(config["data"])
    split = config["split"]
    examples = data.examples(split, config["split_sizes"][split], config["targets"][split])
    return data, {example.id: example for example in examples}


def _reference(data: Dataset, examples: Mapping[str, Example], name: str, latest: int | None) -> Reference:
    example = examples[name]
    history = example.history[-latest:] if latest else example.history
    liked = [one.item for one in history if one.liked][-SHOWN:]
    truth = _pictures(data, example.truth[:1])
    titles = "history: " + ", ".join(item.title for item in liked)
    return Reference(_tile(_pictures(data, liked)), truth[0] if truth else None, titles)


def _pictures(data: Dataset, items: Sequence[Item]) -> list[Image.Image]:
    """Returns the images of those items that have one."""
    store = data.images
    having = [item for item in items if store.has(item)]
    return [to_picture(pixels) for pixels in store.pixels(store.rows(having))] if having else []


def _tile(pictures: Sequence[Image.Image]) -> Image.Image | None:
    """Returns the images in rows of `COLUMNS`, or None without any."""
    if not pictures:
        return None
    sheet = Image.new("RGB", (TILE * COLUMNS, TILE * -(-len(pictures) // COLUMNS)), "white")
    for place, picture in enumerate(pictures):
        sheet.paste(picture.resize((TILE, TILE)), (TILE * (place % COLUMNS), TILE * (place // COLUMNS)))
    return sheet
