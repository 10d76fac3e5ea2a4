"""Images that are held in memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pmg.data.dataset import ItemRows
from pmg.domain import Item, PmgError
from pmg.models.vision.pixels import from_uint8


class MemoryImages(ItemRows):
    """An `ImageStore` in memory: for data sets of some ten thousand small images.

    `uint8` has an image `(3, size, size)` for each of `items`, in their order. PmgError if the numbers of items and
    images differ, or the images are no such tensor.
    """

    def __init__(self, items: Sequence[Item], uint8: Tensor) -> None:
        count, found = len(items), f"{uint8.dtype}, {tuple(uint8.shape)}"
        if uint8.dtype != torch.uint8 or uint8.shape[:2] != (count, 3) or uint8.shape[2] != uint8.shape[3]:
            raise PmgError(f"images of {count} items: {found}. Give uint8 ({count}, 3, size, size)")
        super().__init__(items)
        self.uint8 = uint8

    @property
    def size(self) -> int:
        """Pixels a side."""
        return self.uint8.shape[-1]

    def pixels(self, rows: Tensor) -> Tensor:
        """Returns the images of `rows` as float32 in [-1, 1], `(B, 3, size, size)`."""
        return from_uint8(self.uint8[rows])
