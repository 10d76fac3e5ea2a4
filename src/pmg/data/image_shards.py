"""Published pictures, checked and made equal: RGB squares of one size, packed into shards.

A shard is an uncompressed Arrow file of a thousand losslessly compressed pictures. A folder of a hundred thousand
files is slow to copy and to check; one parquet file would be decoded by whole row groups to get at one picture. An
Arrow file is mapped into memory, so that a row costs its own bytes alone, and has one checksum for its thousand rows.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
from PIL import Image, ImageOps
from rich.progress import track

from pmg.cache import Cache, atomic_write_bytes
from pmg.configuration.instantiate import nearest
from pmg.configuration.ranges import Count
from pmg.data.duplicates import mean_colours
from pmg.data.packing_state import FOLDER, Packed, Work
from pmg.data.publishers.image_files import MISSING, UnusableError, is_file, read_picture
from pmg.domain import PmgError

PER_SHARD = 1000
AT_ONCE = 64  # pictures that are decoded before the next are begun
FITS: dict[str, Callable[..., Image.Image]] = {"crop": ImageOps.fit, "pad": ImageOps.pad}
Hasher = Callable[[Image.Image], object]  # its text is the hash


@dataclass(frozen=True)
class Square:
    """A picture made equal to the others.

    Attributes:
        png: the picture.
        phash: its perceptual hash.
        colours: mean colours of its cells.
        changes: what was done to it beside scaling and cropping.
    """

    png: bytes
    phash: str
    colours: str
    changes: list[str]


@dataclass(frozen=True)
class Packing:
    """How pictures are made equal.

    Attributes:
        size: pixels a side.
        fit: ``crop`` cuts what is beyond the middle square, ``pad`` keeps all and adds white.

    Raises:
        PmgError: there is no such fit, or no pixel.
    """

    size: Count = 256
    fit: str = "crop"

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise PmgError(f"source.pictures.fit: '{self.fit}' is none of {', '.join(FITS)}{nearest(self.fit, FITS)}")
        if self.size < 1:
            raise PmgError(f"source.pictures.size must be a number of pixels, got {self.size}")

    def pack(self, items: Sequence[str], paths: Mapping[str, Path], folder: Path, max_missing: float) -> Packed:
        """Reads, checks and packs the pictures of `items`; all shards are replaced at once, or none.

        What is packed already stays as it is, and packing that was broken off goes on behind the last whole shard,
        unless items, files or `Packing` changed.

        Args:
            items: ids, in the order of their rows.
            paths: the published pictures by id; a file may be missing.
            folder: of the prepared data.
            max_missing: the largest share of items that may be without a picture.

        Raises:
            PmgError: more items are without one, or the package ImageHash is missing.
        """
        absent = [item for item in items if not is_file(paths.get(item))]
        early = Packed()
        for item in absent:  # before anything is decoded: a folder that is half there is the most frequent case
            early.count(early.left_out, MISSING, item, paths.get(item))
        refuse_missing(early, len(items), max_missing)
        hasher = _hasher()
        work = Work.open(folder, self._identity(items, paths))
        self._write(items, paths, work, hasher)
        try:
            refuse_missing(work.packed, len(items), max_missing)
        except PmgError:
            work.drop()
            raise
        work.replace()
        return work.packed

    def _identity(self, items: Sequence[str], paths: Mapping[str, Path]) -> str:
        """A hash of all that the shards depend on; of the pictures, size and time of change."""
        there = (paths[item] for item in items if is_file(paths.get(item)))
        files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in there]
        return Cache.key(
            items=list(items), files=files, packing=asdict(self), per_shard=PER_SHARD, hashes=["phash", "colours"]
        )

    def _write(self, items: Sequence[str], paths: Mapping[str, Path], work: Work, hasher: Hasher) -> None:
        shard: dict[str, bytes] = {}
        packed, begin = work.packed, work.items
        squares = self._squares(items[begin:], paths, hasher)
        made = track(squares, "pictures", total=len(items), completed=begin, transient=True)
        for number, (item, square) in enumerate(made, start=begin + 1):
            if isinstance(square, UnusableError):
                packed.count(packed.left_out, str(square), item, paths.get(item))
                continue
            for change in square.changes:
                packed.count(packed.changed, change, item, paths[item])
            packed.row[item], shard[item] = len(packed.row), square.png
            packed.phash[item], packed.colours[item] = square.phash, square.colours
            if len(shard) == PER_SHARD:
                packed.sha256.update(_write_shard(work.shards, len(packed.sha256), shard))
                work.save(number)
                shard = {}
        if shard:
            packed.sha256.update(_write_shard(work.shards, len(packed.sha256), shard))
        work.save(len(items))

    def _squares(
        self, items: Sequence[str], paths: Mapping[str, Path], hasher: Hasher
    ) -> Iterator[tuple[str, Square | UnusableError]]:
        """Every item with its square, or with the reason why it has none."""

        def make(item: str) -> Square | UnusableError:
            try:
                return self._square(paths.get(item), hasher)
            except UnusableError as reason:
                return reason

        with ThreadPoolExecutor() as pool:
            for start in range(0, len(items), AT_ONCE):
                some = items[start : start + AT_ONCE]
                yield from zip(some, pool.map(make, some), strict=True)

    def _square(self, path: Path | None, hasher: Hasher) -> Square:
        image, changes = read_picture(path)
        white = {"color": "white"} if self.fit == "pad" else {}
        image = FITS[self.fit](image, (self.size, self.size), Image.Resampling.LANCZOS, **white)
        buffer = io.BytesIO()
        image.save(buffer, "PNG")  # what is compared with generated images shows no compression of ours
        return Square(buffer.getvalue(), str(hasher(image)), mean_colours(image), changes)


def refuse_missing(packed: Packed, items: int, max_missing: float) -> None:
    """Refuses data of which too many items are without a picture.

    Raises:
        PmgError: says how many, why, and which is the first of each reason.
    """
    missing = packed.left_out.total()
    if missing > max_missing * items:
        told = " · ".join(f"{count} x {why} (first: {packed.first[why]})" for why, count in packed.left_out.items())
        allowed = f"source.max_missing_pictures allows {max_missing:.0%}"
        raise PmgError(f"{missing} of {items} items have no usable picture, {allowed}: {told}")


def _write_shard(folder: Path, number: int, images: Mapping[str, bytes]) -> dict[str, str]:
    """Writes one shard; returns its checksum by its path in the prepared folder."""
    table = pa.table({"id": list(images), "image": pa.array(images.values(), pa.binary())})
    buffer = io.BytesIO()
    with pa.ipc.new_file(buffer, table.schema) as writer:
        writer.write_table(table)
    name = f"{number:05d}.arrow"
    atomic_write_bytes(folder / name, buffer.getvalue())
    return {f"{FOLDER}/{name}": sha256(buffer.getvalue()).hexdigest()}


def _hasher() -> Hasher:
    """The perceptual hash: 64 bits that re-encoding and scaling hardly change."""
    try:
        from imagehash import phash
    except ModuleNotFoundError:
        raise PmgError(
            "pictures need the package ImageHash to find near duplicates: pip install 'pmg[images]'"
        ) from None
    return phash
