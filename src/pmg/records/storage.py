"""Generated images and their records on disk, from which an interrupted generation is resumed."""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pmg.cache import atomic_write_bytes
from pmg.domain import PmgError
from pmg.models.image_passes import fit_size
from pmg.models.vision.pictures import to_file, to_pictures
from pmg.models.vision.pixels import from_uint8

log = logging.getLogger(__name__)

RECORDS = "records.jsonl"
SEAL = "crc32"  # checksum of each line
IMAGES = "images"
LONGEST_NAME = 150  # characters of an id in a file's name
CHUNK = 64  # images that are checked at once

Control = Literal["own", "mismatched"]


class Key(NamedTuple):
    """What makes a record unique in its folder."""

    example: str
    method: str
    control: Control
    seed: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """One pair of weights with its scores."""

    w_p: float  # weight of the preference block
    w_t: float  # weight of the target block
    preference: float | None  # d_p, cosine of image and preference keywords; None for a method without a preference
    accuracy: float  # d_t, cosine of image and target keywords
    z: float  # balance of both, by which a candidate is selected


@dataclass(frozen=True, slots=True)
class Record:
    """The parameters and scores of one image."""

    example: str  # id
    user: str  # id of the example's user
    method: str  # the method, e.g. ``"pmg_read"``
    control: Control  # ``own`` preference, or that of a ``mismatched`` user
    preference_from: str  # id of the profile whose preference was used: a user's, or ``user@moment``
    seed: int  # of the run; the noise is drawn from it and the example (`generation/requests.py`)
    candidates: tuple[Candidate, ...]  # all, never empty
    picked: int = 0  # index of the selected candidate
    target_keywords: tuple[str, ...] = ()
    preference_keywords: tuple[str, ...] = ()  # explicit preference; empty for a method without keywords
    negative_keywords: tuple[str, ...] = ()  # of the negative prompt
    dropped_keywords: tuple[str, ...] = ()  # beyond the text encoder's maximum length
    note: str = ""  # what the user should be told, e.g. of messages in which no wish was found
    alpha: float = 0.0  # weight of the preference score in z; 0 without a preference score
    front: tuple[int, ...] = ()  # indices of the candidates on the Pareto front of preference and accuracy score
    hashes: Mapping[str, str] = field(default_factory=dict)  # of the values that decide the image, by name
    image: str = ""  # file relative to the folder; set by `RecordWriter`, as is the next
    sha256: str = ""  # of that file

    def __post_init__(self) -> None:
        if not 0 <= self.picked < len(self.candidates):
            raise ValueError(f"candidate {self.picked} of {len(self.candidates)} was picked: there is none")

    @property
    def key(self) -> Key:
        """What makes the record unique in its folder."""
        return Key(self.example, self.method, self.control, self.seed)

    @property
    def chosen(self) -> Candidate:
        """The selected candidate."""
        return self.candidates[self.picked]


class RecordWriter:
    """Writes images and records into a folder, or appends to those of an earlier writer.

    A record is written after its image and synced to disk before `add` returns. An incomplete last line is dropped, so
    that its image is generated again. `done` has the keys of all records in the folder. PmgError if the folder's
    records are damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._path = self.folder / RECORDS
        self.folder.mkdir(parents=True, exist_ok=True)
        self._path.touch()
        self.done: set[Key] = set()
        self._hashes: dict[str, dict[str, str]] = {}
        whole = 0
        for _, end, record in _scan(self._path):
            whole = end
            self.done.add(record.key)
            self._hashes[record.method] = dict(record.hashes)
        os.truncate(self._path, whole)

    def check(self, method: str, hashes: Mapping[str, str]) -> None:
        """Checks that a method's hashes equal those of its images in the folder, else raises PmgError with names."""
        known = self._hashes.setdefault(method, dict(hashes))
        if differ := sorted(name for name in known.keys() | hashes.keys() if known.get(name) != hashes.get(name)):
            raise PmgError(
                f"{self.folder} holds images of method '{method}' made with another {' and '.join(differ)}; "
                "name a new run_dir, or remove the folder"
            )

    def add(self, images: Tensor, records: Sequence[Record]) -> None:
        """Writes images `(B, 3, H, W)` in [-1, 1] and their B records, except those that the folder already has.

        PmgError as of `check`; ValueError if the numbers of images and records differ, or the shape is wrong.
        """
        if images.ndim != 4 or images.shape[1] != 3 or len(images) != len(records):
            raise ValueError(f"{len(records)} records came with images of shape {tuple(images.shape)}")
        for record in records:
            self.check(record.method, record.hashes)
        lines = []
        for picture, record in zip(to_pictures(images), records, strict=True):
            if record.key not in self.done:
                self.done.add(record.key)
                lines.append(self._write_image(picture, record))
        with self._path.open("ab") as file:
            file.write("".join(lines).encode())
            file.flush()
            os.fsync(file.fileno())

    def _write_image(self, picture: Image.Image, record: Record) -> str:
        example = quote(record.example, safe="")  # ids of own data may be of any characters and length
        if len(example) > LONGEST_NAME:
            example = f"{example[:LONGEST_NAME]}-{sha256(record.example.encode()).hexdigest()[:16]}"
        name = f"{IMAGES}/{record.method}/{record.control}/{example}-{record.seed}.png"
        content = to_file(picture)
        atomic_write_bytes(self.folder / name, content)
        return as_line(replace(record, image=name, sha256=sha256(content).hexdigest()))


def as_line(record: Record) -> str:
    """Returns the record as a line of `RECORDS`, with its checksum."""
    values = asdict(record)
    return json.dumps(values | {SEAL: _checksum(values)}, ensure_ascii=False) + "\n"


def read_records(folder: str | Path) -> list[Record]:
    """Returns the records of a generation, in its order; PmgError if `folder` is no generation's, empty or damaged."""
    return [record for _, record in scan_records(folder)]


def scan_records(folder: str | Path) -> Iterator[tuple[int, Record]]:
    """Yields what `read_records` returns, one record at a time, each behind the place of its line's first byte."""
    path, start = Path(folder, RECORDS), None
    if not path.is_file():
        raise PmgError(f"{folder} is not a folder of generated images (no {RECORDS}); run `pmg-generate`")
    for start, _, record in _scan(path):
        yield start, record
    if start is None:
        raise PmgError(f"{path} holds no record yet; run `pmg-generate` to its end")


def refuse_mixtures(folder: str | Path, records: Iterable[Record], config: str) -> None:
    """Checks that all records have the hash `config`, and those of a method equal ones, else raises PmgError."""
    known: dict[str, Mapping[str, str]] = {}
    for record in records:
        first = known.setdefault(record.method, record.hashes)
        if record.hashes.get("config") != config or dict(first) != dict(record.hashes):
            raise PmgError(
                f"{folder} holds images that were made in different ways, e.g. {record.image}. Remove the folder and "
                "generate again"
            )


def read_images(folder: str | Path, records: Iterable[Record]) -> Tensor:
    """Returns images `(B, 3, H, W)` in [-1, 1]; PmgError if one is missing, damaged, changed, or of another size."""
    arrays: list[np.ndarray] = []
    for record in records:
        path, row = Path(folder, record.image), "/".join(map(str, record.key))
        try:
            content = path.read_bytes()
            with Image.open(BytesIO(content), formats=["PNG"]) as image:
                arrays.append(np.asarray(image.convert("RGB")))
        except (OSError, SyntaxError):  # Pillow raises SyntaxError for a broken PNG chunk
            reason = "can't be read" if path.exists() else "is missing"
            raise PmgError(
                f"{path} (row '{row}' of {RECORDS}) {reason}; remove that row and run pmg-generate again"
            ) from None
        if sha256(content).hexdigest() != record.sha256:
            raise PmgError(
                f"{path} is not the picture that was made (row '{row}' of {RECORDS}): it was changed or exchanged; "
                "remove that row and run pmg-generate again"
            )
        if arrays[-1].shape != arrays[0].shape:
            sizes = [f"{array.shape[1]}x{array.shape[0]}" for array in (arrays[-1], arrays[0])]
            raise PmgError(f"{path} (row '{row}' of {RECORDS}) is {sizes[0]} pixels, others are {sizes[1]}")
    return from_uint8(torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2))


def _scan(path: Path) -> Iterator[tuple[int, int, Record]]:
    """Yields the first and the last byte (exclusive) of each complete line, with its record."""
    start = 0
    with path.open("rb") as file:
        for row, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                log.warning("%s: the last line was cut short by an interruption and is left out", path)
                return
            yield start, start + len(line), parse_record(line, f"{path}, row {row}")
            start += len(line)


def parse_record(line: bytes, where: str) -> Record:
    """Returns the record that `as_line` wrote; PmgError, which begins with `where`, if it isn't one."""
    try:
        values = json.loads(line)
        if values.pop(SEAL, None) != _checksum(values):
            raise ValueError("it is not what was written")
        values["candidates"] = tuple(Candidate(**candidate) for candidate in values["candidates"])
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return Record(**values | lists)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PmgError(f"{where}: not a record ({error}); remove it and generate again") from None


def _checksum(values: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(values, ensure_ascii=False).encode()):08x}"


class StoredRecords(Mapping[Key, Record]):
    """The records of a generation by key, in its order, each read from its file; PmgError as of `read_records`."""

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
