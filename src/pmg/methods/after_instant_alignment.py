"""After Instant Preference Alignment (2508.17718): keywords read from liked pictures, training-free.

There a multimodal language model reads keywords from a reference picture, enriches the prompt by them, and steers
cross-attention in regions. Here the scorer's image and text encoders read them from all liked pictures: of each
attribute of the scenario the option that is nearest to a user's pictures, compared with how near it is to
everybody's. The guidance scale of the keywords steers; nothing is steered in regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pmg.configuration.ranges import Count, Fraction
from pmg.data.dataset import liked_with_image
from pmg.domain import Example, Keywords
from pmg.models.vision.scorer import Scorer, unit
from pmg.preferences.keywords import NO_WORDS
from pmg.preferences.sources import KeywordSource, SourceContext
from pmg.progress import track


@dataclass(frozen=True)
class SeenKeywords(KeywordSource):
    """Of each attribute the option that a user's liked pictures show most, by a dual encoder of images and texts."""

    scorer: Scorer
    pictures: Count = 6  # most of a user
    prior: Fraction = 0.81  # share of the cosine with the mean picture of all users that is subtracted

    def __call__(self, context: SourceContext) -> Sequence[Keywords]:
        """Returns the keywords of each user; none for users without pictures."""
        attributes, budget = context.extractor.scenario.attributes, context.extractor.budget
        users = track(context.examples, "Looking at pictures", total=len(context.examples))
        pictures = [self._look(example, context) for example in users]
        if not (seen := [row for row, vector in enumerate(pictures) if vector is not None]):
            return [NO_WORDS] * len(pictures)
        vectors = torch.stack([vector for vector in pictures if vector is not None])
        texts = self.scorer.text_encoder or context.generator.text_encoder
        found: dict[int, list[str]] = {row: [] for row in seen}
        for attribute in attributes.values():
            if attribute.options:
                pooled = texts.encode(attribute.options).pooled
                named = self.scorer.encode_preference(pooled.to(self.scorer.device)).cpu()
                best = compare(vectors, named, self.prior).argmax(1).tolist()
                for row, place in zip(seen, best, strict=True):
                    found[row].append(attribute.options[place])
        return [budget.fit(Keywords(tuple(found.get(row, ())))) for row in range(len(pictures))]

    @torch.no_grad()
    def _look(self, example: Example, context: SourceContext) -> Tensor | None:
        if not (items := liked_with_image(context.images, example)[-self.pictures :]):
            return None
        _, style = self.scorer(context.images.pixels(context.images.rows(items)).to(self.scorer.device))
        return unit(style.mean(0, keepdim=True)).cpu()[0]


def compare(users: Tensor, options: Tensor, prior: float) -> Tensor:
    """Returns cosines of users `(U, D)` and options `(K, D)` less `prior` times those of the mean user, `(U, K)`."""
    return (users - prior * users.mean(0)) @ options.T
