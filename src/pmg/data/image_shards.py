"""Published images as RGB squares of one size, packed into shards.

A shard is an uncompressed Arrow file of a thousand losslessly compressed images. A folder of a hundred thousand files
is slow to copy and to verify; one parquet file has to be decoded by whole row groups to read one image. An Arrow file
is mapped into memory, so that reading a row costs its own bytes alone, and has one checksum for its thousand rows.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa
from PIL import Image, ImageOps
from rich.progress import track

from pmg.cache import Cache, atomic_write_bytes, atomic_write_json
from pmg.configuration.ranges import Side
from pmg.data.duplicates import mean_colours
from pmg.data.image_files import MISSING, UnusableError, is_file, read_picture
from pmg.domain import PmgError
from pmg.installation import install_extra
from pmg.models.vision.pictures import to_file

FOLDER = "pictures"
STATE = ".packing.json"
PER_SHARD = 1000
MOST_THREADS = 8  # each has a picture in memory
AT_ONCE = 64  # images that are decoded concurrently
FITS: dict[str, Callable[..., Image.Image]] = {"crop": ImageOps.fit, "pad": ImageOps.pad}
Hasher = Callable[[Image.Image], object]  # its text is the hash


@dataclass
class PackingReport:
    """Rows, perceptual hashes (16 hexadecimal digits) and `mean_colours` of packed images by item, and counts."""

    row: dict[str, int] = field(default_factory=dict)
    phash: dict[str, str] = field(default_factory=dict)
    colours: dict[str, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)  # items without a usable image, by reason
    changed: Counter[str] = field(default_factory=Counter)  # images that differ from the published ones, by conversion
    first: dict[str, str] = field(default_factory=dict)  # the first item of each reason or conversion, as text
    sha256: dict[str, str] = field(default_factory=dict)  # of the shards, by their path in the prepared folder

    def count(self, counter: Counter[str], reason: str, item: str, path: Path | None) -> None:
        """Counts an item for a reason, and notes it if it is the first."""
        counter[reason] += 1
        self.first.setdefault(reason, f"item {item}: {path.name if path else 'no file of its name'}")


@dataclass
class PackingState:
    """The progress of a packing, saved in the folder of the prepared data.

    `identity` is a hash of everything that determines the shards. The first `items`, which `packed` is about, are in
    complete shards, or left out.
    """

    folder: Path
    identity: str
    packed: PackingReport = field(default_factory=PackingReport)
    items: int = 0

    @property
    def shards(self) -> Path:
        """The folder of the shards until `replace` moves it to its final name."""
        return self.folder / f".{FOLDER}"

    @classmethod
    def open(cls, folder: Path, identity: str) -> PackingState:
        """Returns the saved state of this identity; a new one where there is none, or where a shard is damaged."""
        state = cls(folder, identity)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            saved = json.loads((folder / STATE).read_text())
            if saved["identity"] == identity:
                counters = {name: Counter(saved["packed"][name]) for name in ("left_out", "changed")}
                state = cls(folder, identity, PackingReport(**{**saved["packed"], **counters}), saved["items"])
        if not state._is_intact():
            state = cls(folder, identity)
        if not state.items:
            shutil.rmtree(state.shards, ignore_errors=True)
            state.shards.mkdir(parents=True)
        return state

    def _is_intact(self) -> bool:
        shards = self.shards if self.shards.is_dir() else self.folder / FOLDER
        files = {shards / Path(name).name: digest for name, digest in self.packed.sha256.items()}
        return all(path.is_file() and sha256(path.read_bytes()).hexdigest() == files[path] for path in files)

    def save(self, items: int, shard: Mapping[str, bytes]) -> None:
        """Writes a shard of images by item, unless it is empty, and that the first `items` are packed or left out."""
        if shard:
            table = pa.table({"id": list(shard), "image": pa.array(shard.values(), pa.binary())})
            buffer = io.BytesIO()
            with pa.ipc.new_file(buffer, table.schema) as writer:
                writer.write_table(table)
            name = f"{len(self.packed.sha256):05d}.arrow"
            atomic_write_bytes(self.shards / name, buffer.getvalue())
            self.packed.sha256[f"{FOLDER}/{name}"] = sha256(buffer.getvalue()).hexdigest()
        self.items = items
        saved = {"identity": self.identity, "items": items, "packed": vars(self.packed)}
        atomic_write_json(self.folder / STATE, saved)

    def replace(self) -> None:
        """Moves the shards to their final folder, unless they are there already."""
        if self.shards.is_dir():
            shutil.rmtree(self.folder / FOLDER, ignore_errors=True)
            self.shards.rename(self.folder / FOLDER)


class Square(NamedTuple):
    """An image of the packed size as a PNG, with its hashes, and its conversions other than scaling and cropping."""

    png: bytes
    phash: str
    colours: str
    changes: list[str]


@dataclass(frozen=True)
class Packing:
    """Converts images to squares of one size, and packs them.

    `size` is in pixels a side. The `fit` ``crop`` keeps the middle square, ``pad`` keeps all and adds white.
    """

    size: Side = 256
    fit: Literal["crop", "pad"] = "crop"

    def pack(self, items: Sequence[str], paths: Mapping[str, Path], folder: Path, max_missing: float) -> PackingReport:
        """Reads, validates and packs the images of `items`; all shards are replaced at once, or none.

        An interrupted packing resumes behind its last complete shard, unless items, files or `Packing` changed.
        `items` are ids in the order of their rows, `paths` their published images; a file may be missing, of the share
        `max_missing` at most. PmgError if more items are without an image, or the package ImageHash is missing.
        """
        early = PackingReport()  # before anything is decoded: an incomplete folder is the most frequent error
        for item in items:
            if not is_file(paths.get(item)):
                early.count(early.left_out, MISSING, item, paths.get(item))
        refuse_missing(early, len(items), max_missing)
        hasher = _hasher()
        state = PackingState.open(folder, self._identity(items, paths))
        self._write(items, paths, state, hasher)
        try:
            refuse_missing(state.packed, len(items), max_missing)
        except PmgError:
            shutil.rmtree(state.shards, ignore_errors=True)
            (folder / STATE).unlink(missing_ok=True)
            raise
        state.replace()
        return state.packed

    def _identity(self, items: Sequence[str], paths: Mapping[str, Path]) -> str:
        """Returns a hash of everything that determines the shards; of the images, size, times and inode.

        An image that replaces another, of the same size and date, has another inode, or time of change.
        """
        stats = [(paths[item], paths[item].stat()) for item in items if is_file(paths.get(item))]
        files = [(str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino) for path, stat in stats]
        return Cache.key(
            items=list(items), files=files, packing=asdict(self), per_shard=PER_SHARD, hashes=["phash", "colours"]
        )

    def _write(self, items: Sequence[str], paths: Mapping[str, Path], state: PackingState, hasher: Hasher) -> None:
        shard: dict[str, bytes] = {}
        packed, begin = state.packed, state.items
        squares = self._squares(items[begin:], paths, hasher)
        made = track(squares, "pictures", total=len(items), completed=begin, transient=True)
        for number, (item, (square, reason)) in enumerate(made, start=begin + 1):
            if square is None:
                packed.count(packed.left_out, reason, item, paths.get(item))
                continue
            for change in square.changes:
                packed.count(packed.changed, change, item, paths[item])
            packed.row[item], shard[item] = len(packed.row), square.png
            packed.phash[item], packed.colours[item] = square.phash, square.colours
            if len(shard) == PER_SHARD:
                state.save(number, shard)
                shard = {}
        state.save(len(items), shard)

    def _squares(
        self, items: Sequence[str], paths: Mapping[str, Path], hasher: Hasher
    ) -> Iterator[tuple[str, tuple[Square | None, str]]]:
        """Yields every item with its square, or None and the reason why it has none."""
        with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
            for start in range(0, len(items), AT_ONCE):
                some = items[start : start + AT_ONCE]
                made = pool.map(lambda item: self._square(paths.get(item), hasher), some)
                yield from zip(some, made, strict=True)

    def _square(self, path: Path | None, hasher: Hasher) -> tuple[Square | None, str]:
        try:
            image, changes = read_picture(path)
        except UnusableError as error:
            return None, str(error)
        white = {"color": "white"} if self.fit == "pad" else {}
        image = FITS[self.fit](image, (self.size, self.size), Image.Resampling.LANCZOS, **white)
        # lossless: generated images are compared with these
        return Square(to_file(image), str(hasher(image)), mean_colours(image), changes), ""


def refuse_missing(packed: PackingReport, items: int, max_missing: float) -> None:
    """Checks that enough items have an image, else PmgError with the number, the reasons, and the first of each."""
    missing = packed.left_out.total()
    if missing > max_missing * items:
        reasons = " · ".join(f"{count} x {why} (first: {packed.first[why]})" for why, count in packed.left_out.items())
        allowed = f"source.max_missing_pictures allows {max_missing:.0%}"
        raise PmgError(f"{missing} of {items} items have no usable picture, {allowed}: {reasons}")


def _hasher() -> Hasher:
    """Returns the perceptual hash function: 64 bits that re-encoding and scaling hardly change."""
    try:
        from imagehash import phash
    except ModuleNotFoundError:
        raise PmgError(
            f"pictures need the package ImageHash to find near duplicates: {install_extra('images')}"
        ) from None
    return phash
