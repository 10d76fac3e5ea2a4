"""The catalogue: rows of items with their images, in one checksummed parquet file."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from pmg.cache import atomic_write_bytes, atomic_write_text
from pmg.configuration.ranges import Count
from pmg.domain import Item, PmgError
from pmg.installation import restore_assets
from pmg.models.diffusion.diffusers_denoiser import read_names
from pmg.models.vision.pictures import FORMATS

TABLE = "catalogue.parquet"
MANIFEST = "manifest.json"


def decode(data: bytes, path: Path, row: str, mode: str = "RGB") -> np.ndarray:
    """Decodes image bytes to uint8 `(H, W, C)`; PmgError, which names file and row, if they are not an image."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return np.asarray(image.convert(mode))
    except (UnidentifiedImageError, OSError) as error:
        hint = restore_assets(path.parent.name, "catalogue")
        raise PmgError(f"{path}: the image of row '{row}' can't be read ({error}); {hint}") from None


def read_table(folder: Path) -> pa.Table:
    """Reads the parquet file; PmgError if it or the manifest is missing, or its checksum is not the manifest's."""
    hint = restore_assets(folder.name, "catalogue")
    for name in (TABLE, MANIFEST):
        if not (folder / name).is_file():
            raise PmgError(f"{folder / name} is missing; {hint}")
    expected = json.loads((folder / MANIFEST).read_text())["sha256"]
    data = (folder / TABLE).read_bytes()
    if sha256(data).hexdigest() != expected:
        raise PmgError(f"{folder / TABLE} does not match the checksum in {MANIFEST}; {hint}")
    return pq.read_table(pa.BufferReader(data))


def read_rows(folder: str, topics: Sequence[str] | None) -> list[dict[str, Any]]:
    """Reads the rows of some topics, None: of all, from a catalogue folder and checks its checksum.

    PmgError if a file is missing or damaged, a topic is unknown, or there are no rows.
    """
    rows = [row for row in read_table(Path(folder)).to_pylist() if topics is None or row["subgroup"] in topics]
    unknown = set(topics or ()) - {row["subgroup"] for row in rows}
    if unknown:
        raise PmgError(f"data.topics names no subgroup of {folder}/{TABLE}: {sorted(unknown)}")
    if not rows:
        raise PmgError(f"data.topics={topics} leaves no drawing of {folder}: null takes all topics")
    return rows


def write_table(folder: Path, rows: Sequence[Mapping], manifest: Mapping) -> str:
    """Writes the parquet file and a manifest that holds its checksum, atomically; returns the checksum."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), buffer, compression="zstd")
    digest = sha256(buffer.getvalue()).hexdigest()
    text = json.dumps({**manifest, "sha256": digest, "rows": len(rows)}, indent=1, ensure_ascii=False) + "\n"
    atomic_write_bytes(folder / TABLE, buffer.getvalue())
    atomic_write_text(folder / MANIFEST, text)
    return digest


class TargetCaptions:
    """Writes captions: title, some `keywords`, `scene` words, and other names, see `read_names`, if `by_names`."""

    def __init__(self, scene: str, keywords: Count = 3, names: str | None = None, by_names: bool = False) -> None:
        self.scene, self.keywords, self.by_names = scene, keywords, by_names
        self.names = read_names(names) if names else {}

    def __call__(self, item: Item) -> list[str]:
        """Returns the captions of an item, the first of them its title alone."""
        words, names = item.keywords[: self.keywords], self.names.get(item.title, []) if self.by_names else []
        longer = [item.title, *(", ".join([item.title, *some]) for some in (words, words[::-1])), *names]
        return [item.title, *(f"{text}, {self.scene}" for text in longer)]
