"""Storage of latents: in memory, or in a zarr array of which a batch loads its rows."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from filelock import FileLock
from rich.progress import track
from torch import Tensor

from pmg.cache import Cache
from pmg.data.dataset import ImageStore
from pmg.domain import Item, PmgError
from pmg.installation import install_extra
from pmg.models.diffusion.interfaces import Generator

if TYPE_CHECKING:
    import zarr

log = logging.getLogger(__name__)

SHARD = 1024  # latents in one file: 8 MB of the embedded generator, 64 MB of Stable Diffusion

Encode = Callable[[slice], Tensor]
"""Encodes consecutive images: latents `(n, C, h, w)`, float32."""


class StoredLatents:
    """Latents in a zarr array `(N, C, h, w)`, for more than memory holds; reading damaged rows raises PmgError."""

    def __init__(self, array: zarr.Array) -> None:
        self.array = array

    def __len__(self) -> int:
        return self.array.shape[0]

    def __getitem__(self, rows: Tensor) -> Tensor:
        unique, places = rows.unique(return_inverse=True)
        try:
            latents = torch.from_numpy(self.array.oindex[unique.numpy()])
        except ValueError as error:  # a checksum
            place, found = self.array.store_path, " ".join(str(error).split())
            raise PmgError(f"latents in {place} are damaged ({found}); remove it, to be made again") from error
        if latents.isnan().any():  # what an array holds where there is no file
            raise PmgError(f"latents in {self.array.store_path} are missing; run the command again to make them")
        return latents[places]


Latents = Tensor | StoredLatents
"""Latents of N images, in memory or stored."""


def store_latents(place: str, count: int, shape: tuple[int, ...], encode: Encode) -> StoredLatents:
    """Encodes images into an array, resumes an interrupted encoding, and restores missing files.

    Each latent is a chunk with a checksum, so that a batch loads only its rows; a file holds `SHARD` of them. `place`
    is the array's folder or URL, e.g. ``s3://bucket/latents/NAME``; its name identifies everything that the latents
    depend on: latents that exist there are used. `count` images are encoded to the `shape` `(C, h, w)`. PmgError if
    zarr is not installed, or `place` holds something else.
    """
    alone: contextlib.AbstractContextManager[object] = contextlib.nullcontext()  # for stores of other kinds
    if "://" not in place:
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        alone = FileLock(f"{place}.lock")
    with alone:  # of several that train together, the first encodes and the others find the rest
        return StoredLatents(_fill(_open(place, (count, *shape)), place, count, encode))


def _fill(array: zarr.Array, place: str, count: int, encode: Encode) -> zarr.Array:
    written = array.attrs.get("written", 0)
    if lost := [start for start in range(0, written, SHARD) if _is_lost(array, start)]:
        log.warning("%s: %d files of latents are missing, they are encoded again", place, len(lost))
    starts = [*lost, *range(written, count, SHARD)]
    for start in track(starts, description="Encoding images") if starts else ():
        run = slice(start, min(start + SHARD, count))
        array[run] = encode(run).numpy()
        array.attrs["written"] = max(written, run.stop)
    return array


def _is_lost(array: zarr.Array, start: int) -> bool:
    """Returns whether the file with a row is missing: it is loaded as NaN. Damaged files raise when they are used."""
    try:
        return bool(np.isnan(array[start]).any())
    except ValueError:
        return False


def _open(place: str, shape: tuple[int, ...]) -> zarr.Array:
    try:
        import zarr
    except ImportError:
        raise PmgError(f"paths.latents_dir needs zarr: {install_extra('streaming')}") from None
    chunk = (1, *shape[1:])
    try:
        try:
            array = zarr.open_array(place, mode="r+")
        except FileNotFoundError:
            checksum, shard = zarr.codecs.Crc32cCodec(), (SHARD, *shape[1:])
            array = zarr.create_array(
                place, shape=shape, dtype="float32", chunks=chunk, shards=shard, compressors=checksum,
                fill_value=float("nan"),
            )  # fmt: skip
    except (ImportError, OSError, ValueError) as error:
        raise PmgError(f"paths.latents_dir: {place}: {' '.join(str(error).split())}") from error
    if array.shape != shape:
        raise PmgError(f"paths.latents_dir: {place} holds {array.shape}, and {shape} are needed; remove it")
    return array


def encode_item_images(
    generator: Generator, catalogue: ImageStore, items: Sequence[Item], place: str | None = None, batch_size: int = 32
) -> Latents:
    """Returns the latents of items' images, in their order: in memory, or in an array of its own below `place`."""
    rows = catalogue.rows(items)

    def encode(run: slice, hidden: bool = True) -> Tensor:
        """Returns the latents of a slice of the items, `(N, C, h, w)`."""
        parts = track(rows[run].split(batch_size), "Encoding images", transient=True, disable=hidden)
        return torch.cat([generator.encode_images(catalogue.pixels(part)) for part in parts])

    if place is None:
        return encode(slice(None), hidden=False)
    name = Cache.key(items=[item.id for item in items])
    return store_latents(f"{place}/{name}", len(rows), generator.latent_shape, encode)
