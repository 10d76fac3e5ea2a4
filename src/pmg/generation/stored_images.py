"""Images of records as a mapping that holds none of them in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from pmg.generation.records import Key, Record, read_images
from pmg.models.image_passes import fit_size

CHUNK = 64  # images that are checked at once
Name = TypeVar("Name")


class StoredImages(Mapping[Name, Tensor]):
    """A mapping from names to images `(3, size, size)` in [-1, 1]; each access reads the file of the name's record."""

    def __init__(
        self, folder: str | Path, records: Mapping[Key, Record], size: int, names: Mapping[Name, Key]
    ) -> None:
        self.folder, self.records, self.size, self.names = folder, records, size, names

    def check(self) -> StoredImages[Name]:
        """Reads each image once; returns itself, PmgError as of `read_images`."""
        keys = list(self.names.values())
        for start in range(0, len(keys), CHUNK):  # all have the first one's size
            read_images(self.folder, map(self.records.__getitem__, [keys[0], *keys[start : start + CHUNK]]))
        return self

    def __getitem__(self, name: Name) -> Tensor:
        return fit_size(read_images(self.folder, [self.records[self.names[name]]]), self.size)[0]

    def __iter__(self) -> Iterator[Name]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)
