"""The interface of data that embedded models are trained on: pictures with titles, in groups of one look."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from pmg.data.dataset import ImageStore
from pmg.data.image_source import PictureSource, mirror_half
from pmg.domain import Item
from pmg.models.image_sizes import fit_size


class PictureGroups(Protocol):
    """A data set whose pictures can be drawn at random, alone and in groups that show one look.

    Splits are ``train``, and ``validation``: pictures that training never sees.
    """

    @property
    def picture_items(self) -> Sequence[Item]:
        """The item of each row."""
        ...

    def rows(self, split: str) -> Tensor:
        """Returns the rows of a split, int64 `(N,)`."""
        ...

    def picture_source(self, split: str) -> PictureSource:
        """Returns the pictures of a split, varied as for the training of an autoencoder."""
        ...

    def draw_pictures(self, rows: Tensor, rng: random.Random) -> Tensor:
        """Returns pictures of rows `(B,)`, varied at random where the data set can, `(B, 3, H, W)` in [-1, 1]."""
        ...

    def draw_group(self, split: str, size: int, rng: random.Random) -> tuple[list[int], Tensor]:
        """Returns rows of different items and their pictures in one look, `(size, 3, H, W)` in [-1, 1].

        The first is of the split, all others are of ``train``.

        Raises:
            PmgError: there are too few pictures.
        """
        ...


class StoredPictures:
    """Some pictures of an `ImageStore`, half of them mirrored: a `PictureSource`.

    Args:
        images: all of them.
        rows: those used, int64 `(N,)`.
        size: pixels a side.
    """

    def __init__(self, images: ImageStore, rows: Tensor, size: int) -> None:
        self.images, self.rows, self.size = images, rows, size

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, rows: Tensor, rng: torch.Generator) -> Tensor:
        """Returns pictures of `rows`, float32 in [-1, 1], `(B, 3, size, size)`."""
        return mirror_half(fit_size(self.images.pixels(self.rows[rows]), self.size), rng)
