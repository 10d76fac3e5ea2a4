"""The interface of data that embedded models are trained on: pictures with titles, in groups of one look."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from pmg.data.dataset import ImageStore
from pmg.domain import Item
from pmg.models.image_passes import fit_size


def mirror_half(pictures: Tensor, rng: torch.Generator) -> Tensor:
    """Returns pictures `(B, 3, H, W)`, each mirrored with a chance of one half."""
    mirrored = torch.rand(len(pictures), generator=rng) < 0.5
    return torch.where(mirrored.view(-1, 1, 1, 1), pictures.flip(-1), pictures)


class PictureSource(Protocol):
    """Pictures that a model is trained or measured on, as the data set varies them."""

    def __len__(self) -> int:
        """Returns the number of different pictures before variation."""

    def draw(self, rows: Tensor, rng: torch.Generator) -> Tensor:
        """Returns varied pictures, float32 in [-1, 1], `(B, 3, H, W)`, of rows `(B,)` in ``[0, len(self))``.

        The same state of `rng` gives the same pictures.
        """


class PictureGroups(Protocol):
    """A data set whose pictures can be drawn at random, alone and in groups that show one look.

    Splits are ``train``, and ``validation``: pictures that training never sees.
    """

    @property
    def picture_items(self) -> Sequence[Item]:
        """The item of each row."""

    def rows(self, split: str) -> Tensor:
        """Returns the rows of a split, int64 `(N,)`."""

    def picture_source(self, split: str) -> PictureSource:
        """Returns the pictures of a split, varied as for the training of an autoencoder."""

    def draw_pictures(self, rows: Tensor, rng: random.Random) -> Tensor:
        """Returns pictures of rows `(B,)`, varied at random where the data set can, `(B, 3, H, W)` in [-1, 1]."""

    def draw_group(self, split: str, size: int, rng: random.Random) -> tuple[list[int], Tensor]:
        """Returns rows of different items and their pictures in one look, `(size, 3, H, W)` in [-1, 1].

        The first is of the split, all others are of ``train``. PmgError if there are too few pictures.
        """


class StoredPictures:
    """The pictures of some rows, int64 `(N,)`, of an `ImageStore`, half of them mirrored: a `PictureSource`."""

    def __init__(self, images: ImageStore, rows: Tensor, size: int) -> None:
        self.images, self.rows, self.size = images, rows, size

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, rows: Tensor, rng: torch.Generator) -> Tensor:
        """Returns pictures of `rows`, float32 in [-1, 1], `(B, 3, size, size)`."""
        return mirror_half(fit_size(self.images.pixels(self.rows[rows]), self.size), rng)
