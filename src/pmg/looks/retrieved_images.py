"""Retrieval, a method without a generator: another artist's drawing of the target under the finish of the history."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pmg.configuration.ranges import Count, Seed
from pmg.data.dataset import liked_with_image
from pmg.domain import Example, Item, PmgError
from pmg.looks.dataset import FinishedImages
from pmg.looks.drawings import LookData
from pmg.looks.finishes import Finish
from pmg.preferences.sources import ImageSource, SourceContext
from pmg.progress import track
from pmg.training.visual_inputs import BATCH, PictureTower


@dataclass(frozen=True)
class RetrievedImages(ImageSource):
    """Finds the finish and the artist by the nearest of random pictures that a tower has read.

    The user's own artist is never used: with their drawing of the target the result would be the truth.

    Attributes:
        data: the drawings and the space of finishes.
        tower: encodes pictures.
        known: number of random pictures, by artists and under finishes of training.
        pictures: most liked pictures a user.
        seed: of the random pictures.
    """

    data: LookData
    tower: PictureTower
    known: Count = 2000
    pictures: Count = 12
    seed: Seed = 0

    def __call__(self, context: SourceContext) -> Sequence[Callable[[Item], Tensor]]:
        """Returns of each user a function of the target that gives a picture; PmgError where a target is no drawing.

        Users without pictures get the finish that is nearest to the mean of all known pictures.
        """
        rng, trained = random.Random(self.seed), self.data.rows("train").tolist()
        rows = torch.tensor([rng.choice(trained) for _ in range(self.known)])
        finishes = [self.data.space.sample(rng) for _ in range(self.known)]
        vectors = torch.cat([
            self.tower(self.data.drawings.pictures(rows[part], [finishes[one] for one in part.tolist()]))
            for part in track(torch.arange(self.known).split(BATCH), "Known pictures", total=-(-self.known // BATCH))
        ])  # fmt: skip
        images = FinishedImages(self.data.drawings)
        artists = [self.data.drawings.artists[row] for row in rows.tolist()]
        nearest = [self._rank(example, context, vectors) for example in context.examples]
        return [partial(self._picture, images, artists, finishes, order) for order in nearest]

    def _rank(self, example: Example, context: SourceContext, vectors: Tensor) -> list[int]:
        """Returns the places of the known pictures, the nearest to the mean of the user's pictures first."""
        items = liked_with_image(context.images, example)[-self.pictures :]
        mean = vectors.mean(0)
        own = self.tower(context.images.pixels(context.images.rows(items))).mean(0) if items else mean
        distances: list[int] = torch.cdist(own[None], vectors)[0].argsort().tolist()
        return distances

    def _picture(
        self, images: FinishedImages, artists: Sequence[str], finishes: Sequence[Finish], order: Sequence[int],
        target: Item,
    ) -> Tensor:  # fmt: skip
        drawings = self.data.drawings
        own = drawings.artists[images.picture(target).row]
        drawn = {
            artist: row
            for (concept, artist), row in drawings.row.items()
            if concept == target.concept and artist != own and self.data.split_of(row) == "train"
        }
        if not drawn:
            raise PmgError(f"no other artist drew '{target.title}': leave out method=retrieve")
        row = next((drawn[artists[place]] for place in order if artists[place] in drawn), next(iter(drawn.values())))
        return drawings.pictures(torch.tensor([row]), [finishes[order[0]]])[0]
