"""Images of records as a mapping that holds none of them in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from pmg.generation.records import Record, read_images
from pmg.models.image_passes import fit_size

CHUNK = 64  # images that are checked at once
Name = TypeVar("Name")


class StoredImages(Mapping[Name, Tensor]):
    """A mapping from names to images `(3, size, size)` in [-1, 1]; each access reads the record's file."""

    def __init__(self, folder: str | Path, records: Mapping[Name, Record], size: int) -> None:
        self.folder, self.records, self.size = folder, records, size

    def check(self) -> StoredImages[Name]:
        """Reads each image once; returns itself, PmgError as of `read_images`."""
        records = list(self.records.values())
        for start in range(0, len(records), CHUNK):
            read_images(self.folder, [records[0], *records[start : start + CHUNK]])  # all have the first one's size
        return self

    def __getitem__(self, name: Name) -> Tensor:
        return fit_size(read_images(self.folder, [self.records[name]]), self.size)[0]

    def __iter__(self) -> Iterator[Name]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)
