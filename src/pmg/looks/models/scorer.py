"""The scorer of looks: the dual encoder over convolutions that were begun with the weights of ImageNet."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from pmg.configuration.ranges import Count, CountOrZero
from pmg.looks.models.efficientnet_lite import CHANNELS, EfficientNetLite, EfficientNetLiteConfig
from pmg.looks.models.trunk import PALETTE, ColourBranch, TextureBranch, statistics
from pmg.models.vision.scorer import EmbeddedScorer, ImageEncoder

STAGES = 6  # of seven: the last one has a fifth of the weights
COLOUR_STRIDE, TEXTURE = 4, 32  # channels of texture


class LookScorerConfig(PreTrainedConfig):
    """Sizes of a `LookScorer`: the text encoder's pooled vectors are `width` wide, images `size` pixels a side."""

    model_type = "pmg_look_scorer"

    def __init__(self, width: int = 384, size: int = 96, **kwargs: object) -> None:
        self.width, self.size = width, size
        super().__init__(**kwargs)


class LookEncoder(ImageEncoder):
    """The first six stages of EfficientNet-Lite0, and shallow branches at full resolution.

    A vector holds mean and standard deviation over positions of each stage (Huang & Belongie 2017), colours, texture.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = EfficientNetLite(EfficientNetLiteConfig())
        self.trunk.stages, self.trunk.head = self.trunk.stages[:STAGES], nn.Identity()
        self.colour, self.texture = ColourBranch(COLOUR_STRIDE), TextureBranch(TEXTURE, TEXTURE)
        self.norm = nn.BatchNorm1d(2 * sum(CHANNELS[:STAGES]) + PALETTE + TEXTURE)

    def forward(self, images: Tensor) -> Tensor:
        """Returns vectors `(B, width)` of images `(B, 3, H, W)` in [-1, 1]."""
        stages, _ = self.trunk(images)
        looks = [statistics(stage.float()) for stage in stages]
        return self.norm(torch.cat([*looks, self.colour(images).float(), self.texture(images).float()], dim=1))


class LookScorer(EmbeddedScorer):
    """An `EmbeddedScorer` with a `LookEncoder`."""

    config_class = LookScorerConfig
    encoder: LookEncoder

    @classmethod
    def build_encoder(cls, _: LookScorerConfig) -> LookEncoder:
        """Returns the image encoder, untrained."""
        return LookEncoder()

    @classmethod
    def from_trunk(cls, trunk: EfficientNetLite, width: Count, size: Count, frozen_stages: CountOrZero = 0) -> Self:
        """Returns a scorer to train, whose convolutions are those of `trunk`; sizes as in `LookScorerConfig`.

        The first `frozen_stages`, with the convolution before them, are not trained on; 0: none.
        """
        scorer, found = cls(LookScorerConfig(width, size)), trunk.state_dict()
        started = scorer.encoder.trunk
        started.load_state_dict({name: found[name] for name in started.state_dict()})
        started.freeze(frozen_stages)
        return scorer
