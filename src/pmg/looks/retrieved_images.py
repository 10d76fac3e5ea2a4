"""Retrieval, a method without a generator: another artist's drawing of the target under the finish of the history."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pmg.configuration.ranges import Count, Seed
from pmg.data.dataset import liked_with_image
from pmg.domain import Example, Item, PmgError
from pmg.looks.dataset import FinishedImages
from pmg.looks.drawings import LookData
from pmg.preferences.sources import ImageSource, SourceContext
from pmg.progress import track
from pmg.training.visual_inputs import BATCH, ImageEncoder


class KnownPictures:
    """Random pictures, `known` of them, by artists and under finishes of training, with their vectors."""

    def __init__(self, data: LookData, image_encoder: ImageEncoder, known: Count, seed: Seed) -> None:
        self.data, self.image_encoder = data, image_encoder
        rng, trained = random.Random(seed), data.rows("train").tolist()
        rows = torch.tensor([rng.choice(trained) for _ in range(known)])
        self.finishes = [data.space.sample(rng) for _ in range(known)]
        self.artists = [data.drawings.artists[row] for row in rows.tolist()]
        self.vectors = torch.cat([
            image_encoder(data.drawings.pictures(rows[part], [self.finishes[one] for one in part.tolist()]))
            for part in track(torch.arange(known).split(BATCH), "Known pictures", total=-(-known // BATCH))
        ])  # fmt: skip

    def nearest(self, vector: Tensor) -> list[int]:
        """Returns the places of the pictures, the nearest to a vector `(E,)` first."""
        return torch.cdist(vector[None], self.vectors)[0].argsort().tolist()

    def picture(self, row: int, order: Sequence[int]) -> Tensor:
        """Returns another artist's drawing of a drawing's concept, `(3, H, W)`; PmgError if nobody else drew it.

        Of `order`, the first picture gives the finish, and the first one whose artist drew the concept the artist.
        """
        drawings = self.data.drawings
        concept = drawings.items[row].concept
        drawn = {
            artist: other
            for (name, artist), other in drawings.row.items()
            if name == concept and artist != drawings.artists[row] and self.data.splits[other] == "train"
        }
        if not drawn:
            raise PmgError(f"no other artist drew '{drawings.items[row].title}': leave out method=retrieve")
        near = (drawn[self.artists[place]] for place in order if self.artists[place] in drawn)
        return drawings.pictures(torch.tensor([next(near, next(iter(drawn.values())))]), [self.finishes[order[0]]])[0]


@dataclass(frozen=True)
class RetrievedImages(ImageSource):
    """Finds the finish and the artist by the nearest of random pictures, see `KnownPictures`.

    The user's own artist is never used: with their drawing of the target the result would be the truth.
    """

    data: LookData  # the drawings and the space of finishes
    image_encoder: ImageEncoder  # encodes pictures
    known: Count = 2000  # number of random pictures
    pictures: Count = 12  # most liked pictures a user
    seed: Seed = 0  # of the random pictures

    def __call__(self, context: SourceContext) -> Sequence[Callable[[Item], Tensor]]:
        """Returns of each user a function of the target that gives a picture; PmgError where a target is no drawing.

        Users without pictures get the finish that is nearest to the mean of all known pictures.
        """
        known = KnownPictures(self.data, self.image_encoder, self.known, self.seed)
        images = FinishedImages(self.data.drawings)

        def find(example: Example) -> Callable[[Item], Tensor]:
            """Returns the function of one user."""
            items = liked_with_image(context.images, example)[-self.pictures :]
            seen = self.image_encoder(context.images.pixels(context.images.rows(items))) if items else known.vectors
            order = known.nearest(seen.mean(0))
            return lambda target: known.picture(images.picture(target).row, order)

        return [find(example) for example in context.examples]
