"""A preference source of tastes: the embedded pictures of a history, which `scorer=personal` compares images with."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pmg.configuration.ranges import Count
from pmg.data.dataset import require_liked
from pmg.domain import Example
from pmg.looks.models.personal_scorer import PersonalScorer
from pmg.models.vision.scorer import Taste
from pmg.preferences.sources import SourceContext, TasteSource
from pmg.progress import track


@dataclass(frozen=True)
class PicturesAsTaste(TasteSource):
    """The pictures that a user liked and disliked last, `pictures` of each at most, for `scorer=personal`."""

    scorer: PersonalScorer
    pictures: Count = 12

    def __call__(self, context: SourceContext) -> list[Taste]:
        """Returns each user's taste; PmgError if a user liked nothing that has a picture."""
        users = track(context.examples, "Tastes", total=len(context.examples))
        return [self._read(example, context) for example in users]

    @torch.no_grad()
    def _read(self, example: Example, context: SourceContext) -> Taste:
        images = context.images
        liked = require_liked(images, example, "a taste")[-self.pictures :]
        disliked = [one.item for one in example.history if not one.liked and images.has(one.item)][-self.pictures :]
        pixels = images.pixels(images.rows([*liked, *disliked])).to(self.scorer.device)
        marks = torch.tensor([True] * len(liked) + [False] * len(disliked))
        return Taste(self.scorer(pixels)[1].cpu(), marks)
