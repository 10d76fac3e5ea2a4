"""Records and images of a generation as mappings that hold neither in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from pmg.generation.records import RECORDS, Key, Record, parse_record, read_images, scan_records
from pmg.models.image_passes import fit_size

CHUNK = 64  # images that are checked at once


class StoredRecords(Mapping[Key, Record]):
    """The records of a generation by key, in its order; each access reads the line of its file.

    PmgError if `folder` is no generation's, empty or damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self._path = Path(folder, RECORDS)
        self._starts = {record.key: start for start, record in scan_records(folder)}

    def __getitem__(self, key: Key) -> Record:
        with self._path.open("rb") as file:
            file.seek(self._starts[key])
            return parse_record(file.readline(), f"{self._path}, row '{'/'.join(map(str, key))}'")

    def __iter__(self) -> Iterator[Key]:
        return iter(self._starts)

    def __len__(self) -> int:
        return len(self._starts)


class StoredImages(Mapping[Key, Tensor]):
    """The images of records by their keys, `(3, size, size)` in [-1, 1]; each access reads the record's file."""

    def __init__(self, folder: str | Path, records: Mapping[Key, Record], size: int) -> None:
        self.folder, self.records, self.size = folder, records, size

    def check(self) -> StoredImages:
        """Reads each image once; returns itself, PmgError as of `read_images`."""
        keys = list(self.records)
        for start in range(0, len(keys), CHUNK):  # all have the first one's size
            read_images(self.folder, map(self.records.__getitem__, [keys[0], *keys[start : start + CHUNK]]))
        return self

    def __getitem__(self, key: Key) -> Tensor:
        return fit_size(read_images(self.folder, [self.records[key]]), self.size)[0]

    def __iter__(self) -> Iterator[Key]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)
