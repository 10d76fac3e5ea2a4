"""A reward: how likely a user likes an image, given pictures that they liked and disliked.

Shapes: `U` users, `H` pictures of a history, `C` images to compare, `F` width of a scorer's features, `E` of a taste.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from pmg.models.loading.weight_sources import EmbeddedModel
from pmg.models.vision.scorer import unit


class PersonalRewardConfig(PreTrainedConfig):
    """Width `features`, `F`, of what a `PersonalReward` reads of an image, and `width`, `E`, of a taste's vectors."""

    model_type = "pmg_personal_reward"

    def __init__(self, features: int = 1088, width: int = 128, **kwargs: object) -> None:
        self.features, self.width = features, width
        super().__init__(**kwargs)


class PersonalReward(EmbeddedModel):
    """How much a user likes an image, a logit: that of A less that of B is the log-odds that A is preferred.

    A soft maximum of the image's cosines with the pictures that a user liked, so that a user of two tastes has both,
    less `aversion` times that with the disliked ones (Bradley & Terry 1952 with attention over a history).
    """

    config_class = PersonalRewardConfig

    def __init__(self, config: PersonalRewardConfig) -> None:
        super().__init__(config)
        self.project = nn.Sequential(
            nn.BatchNorm1d(config.features, affine=False), nn.Dropout(0.2), nn.Linear(config.features, config.width)
        )
        self.sharpness = nn.Parameter(torch.tensor(math.log(8.0)))  # of the soft maximum
        self.scale = nn.Parameter(torch.tensor(math.log(8.0)))
        self.aversion = nn.Parameter(torch.tensor(0.5))
        self.threshold = nn.Parameter(torch.tensor(0.0))  # where a user is undecided
        self.post_init()

    def embed(self, features: Tensor) -> Tensor:
        """Returns unit vectors `(..., E)` of features `(..., F)`."""
        return unit(self.project(features.float().flatten(0, -2))).unflatten(0, features.shape[:-1])

    @torch.no_grad()
    def sharpen(self, factor: float) -> None:
        """Multiplies all logits by a factor."""
        self.scale.add_(math.log(factor))
        self.threshold.mul_(factor)

    def forward(self, images: Tensor, history: Tensor, liked: Tensor, known: Tensor) -> Tensor:
        """Returns logits `(U, C)` of unit vectors `(U, C, E)` of images, and `(U, H, E)` of each user's pictures.

        Bool `(U, H)`: which of the user's pictures were `liked`, and which there are (`known`).
        """
        similar = images @ history.transpose(1, 2) * self.sharpness.exp()
        for_it, against = (self._soft_maximum(similar, known & which) for which in (liked, ~liked))
        return self.scale.exp() * (for_it - self.aversion * against) - self.threshold

    def _soft_maximum(self, similar: Tensor, of: Tensor) -> Tensor:
        """Returns the soft maximum `(U, C)` of cosines `(U, C, H)` over the pictures `of` `(U, H)`; 0 over none."""
        masked = similar.masked_fill(~of[:, None], float("-inf"))
        masked = torch.where(of.any(1)[:, None, None], masked, torch.zeros_like(masked))
        count = torch.where(of.any(1), of.sum(1), of.shape[1]).float()
        return (torch.logsumexp(masked, dim=2) - count.log()[:, None]) / self.sharpness.exp()
