"""The images of prepared data, decoded on demand."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from pmg.data.dataset import ItemRows
from pmg.data.image_shards import FOLDER, PER_SHARD
from pmg.data.prepared_tables import NO_IMAGE, read_manifest
from pmg.domain import Item, PmgError
from pmg.models.vision.pictures import FORMATS
from pmg.models.vision.pixels import from_uint8


class PreparedImages(ItemRows):
    """An `ImageStore` of the packed images of prepared data; `items` are in the order of their rows.

    A shard's `sha256`, by its path in `folder`, is verified when it is first opened; errors name `remake`, the
    command that prepares the data.
    """

    missing = "item '{item.id}' of {store.folder} has no picture; ask for items that have one"

    def __init__(self, folder: Path, items: Sequence[Item], size: int, sha256: Mapping[str, str], remake: str) -> None:
        super().__init__(items)
        self.folder, self.size, self.sha256, self.remake = folder, size, dict(sha256), remake
        self._shards: dict[int, pa.ChunkedArray] = {}

    @classmethod
    def load(cls, folder: str, name: str, table: pd.DataFrame, items: Mapping[str, Item]) -> PreparedImages | None:
        """Opens the images of prepared data; None where the data have none."""
        manifest = read_manifest(folder, name)
        if "packing" not in manifest:
            return None
        with_image = table[table["picture"] != NO_IMAGE].sort_values("picture")
        shards = {path: digest for path, digest in manifest["sha256"].items() if path.startswith(FOLDER)}
        chosen = [items[item] for item in with_image["id"]]
        return cls(Path(folder), chosen, manifest["packing"]["size"], shards, f"pmg-prepare data={name}")

    def pixels(self, rows: Tensor) -> Tensor:
        """Returns images of `rows`, float32 `(B, 3, H, W)` in [-1, 1]; PmgError if a shard is missing or damaged."""
        images = np.array([self._decode(row) for row in rows.tolist()], np.uint8)
        return from_uint8(torch.from_numpy(images).view(len(rows), self.size, self.size, 3).permute(0, 3, 1, 2))

    def _decode(self, row: int) -> np.ndarray:
        shard, place = divmod(row, PER_SHARD)
        if shard not in self._shards:
            self._shards[shard] = self._open(shard)
        with Image.open(io.BytesIO(self._shards[shard][place].as_buffer()), formats=FORMATS) as image:
            return np.array(image)

    def _open(self, shard: int) -> pa.ChunkedArray:
        name = f"{FOLDER}/{shard:05d}.arrow"
        path = self.folder / name
        if not path.is_file() or sha256(content := path.read_bytes()).hexdigest() != self.sha256[name]:
            raise PmgError(f"{path} is missing or not what its manifest says; make it again: {self.remake}")
        del content
        with pa.memory_map(str(path)) as mapped:
            return pa.ipc.open_file(mapped).read_all()["image"]
