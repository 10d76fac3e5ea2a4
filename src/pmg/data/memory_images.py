"""Images that are held in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from pmg.domain import Item, PmgError
from pmg.models.vision.pixels import from_uint8


class MemoryImages:
    """An `ImageStore` in memory: for data sets of some ten thousand small images.

    Args:
        items: one an image, in the order of their rows.
        uint8: the images, same order, `(N, 3, size, size)`.

    Raises:
        PmgError: the numbers of items and images differ, or the images are no such tensor.
    """

    def __init__(self, items: Sequence[Item], uint8: Tensor) -> None:
        count, found = len(items), f"{uint8.dtype}, {tuple(uint8.shape)}"
        if uint8.dtype != torch.uint8 or uint8.shape[:2] != (count, 3) or uint8.shape[2] != uint8.shape[3]:
            raise PmgError(f"images of {count} items: {found}. Give uint8 ({count}, 3, size, size)")
        self.items, self.uint8 = list(items), uint8
        self._row = {item.id: row for row, item in enumerate(self.items)}

    @property
    def size(self) -> int:
        """Pixels a side."""
        return self.uint8.shape[-1]

    def has(self, item: Item) -> bool:
        """Returns whether there is an image of `item`."""
        return item.id in self._row

    def rows(self, items: Iterable[Item]) -> Tensor:
        """Returns the row numbers of `items`, int64 `(B,)`.

        Raises:
            PmgError: one of them has no image.
        """
        wanted = list(items)
        without = [item.id for item in wanted if not self.has(item)]
        if without:
            raise PmgError(f"item '{without[0]}' has no image: use items of the data set")
        return torch.tensor([self._row[item.id] for item in wanted], dtype=torch.int64)

    def pixels(self, rows: Tensor) -> Tensor:
        """Returns the images of `rows` as float32 in [-1, 1], `(B, 3, size, size)`."""
        return from_uint8(self.uint8[rows])
