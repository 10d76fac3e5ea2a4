"""The judge of looks: style vector, finish and concept of an image; used for metrics only, never for selection.

Shapes: `B` images, `E` width of a style vector, `K` concepts, `P` values of a finish.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize
from transformers import PreTrainedConfig

from pmg.configuration.ranges import CountOrZero
from pmg.looks.models.efficientnet_lite import EfficientNetLite, EfficientNetLiteConfig
from pmg.looks.models.trunk import PALETTE, ColourBranch, TextureBranch, Trunk, statistics
from pmg.models.loading.weight_sources import EmbeddedModel

COLOUR_STRIDE, TEXTURE = 4, (16, 64)  # a third of the default branches' time


@dataclass(frozen=True)
class LookReading:
    """Outputs of the judge."""

    style: Tensor  # unit vectors `(B, E)`, similar for one look
    finish: Tensor  # values `(B, P)`, see `pmg.looks.finish_targets`
    concept: Tensor  # logits `(B, K)`


class LookJudgeConfig(PreTrainedConfig):
    """Sizes and classes of a `LookJudge`.

    Images are resized to `size` pixels. `hidden` is the width of the heads' hidden layers, `width` that of a style
    vector; `bins` are levels a channel of the colour histogram, and `values` numbers `P` that describe a finish.
    """

    model_type = "pmg_look_judge"

    def __init__(
        self, size: int = 112, hidden: int = 256, width: int = 128, bins: int = 8, values: int = 24,
        concepts: tuple[str, ...] = ("concept",), **kwargs: object,
    ) -> None:  # fmt: skip
        self.size, self.hidden, self.width, self.bins, self.values = size, hidden, width, bins, values
        self.concepts = list(concepts)
        super().__init__(**kwargs)


class HistogramBranch(nn.Sequential):
    """Encodes square roots of a colour histogram of `bins` levels a channel as `(B, width)`.

    The square root reduces the weight of the white background, half of most images.
    """

    def __init__(self, bins: int, width: int) -> None:
        # dropout: images of one artist have few exact colours in common
        super().__init__(nn.Dropout(0.4), nn.Linear(bins**3, width), nn.GELU())
        self.bins = bins

    def forward(self, images: Tensor) -> Tensor:
        """Encodes images `(B, 3, H, W)` in [-1, 1]."""
        level = ((images.float() + 1) / 2 * self.bins).long().clamp(0, self.bins - 1)
        place = ((level[:, 0] * self.bins + level[:, 1]) * self.bins + level[:, 2]).flatten(1)
        counts = torch.zeros(len(images), self.bins**3, device=images.device)
        counts.scatter_add_(1, place, torch.ones_like(place, dtype=counts.dtype))
        return super().forward((counts / place.shape[1]).sqrt() * self.bins**1.5)


class LookJudge(EmbeddedModel):
    """EfficientNet-Lite0 with three heads.

    The heads of style and finish get each stage's mean and standard deviation over positions (Huang & Belongie 2017)
    and the colour, texture and histogram branches; the concept head gets the mean of the last features.
    """

    config_class = LookJudgeConfig

    def __init__(self, config: LookJudgeConfig) -> None:
        super().__init__(config)
        self.trunk = self.build_trunk()
        self.colour, self.texture = ColourBranch(COLOUR_STRIDE), TextureBranch(*TEXTURE)
        self.histogram = HistogramBranch(config.bins, PALETTE)
        looks = 2 * sum(self.trunk.channels) + 2 * PALETTE + TEXTURE[1]
        self.style_head = build_look_head(looks, config.hidden, config.width)
        self.finish_head = build_look_head(looks, config.hidden, config.values)
        self.concept_head = nn.Sequential(nn.Dropout(0.2), nn.Linear(self.trunk.width, len(config.concepts)))
        self.post_init()

    @staticmethod
    def build_trunk() -> Trunk:
        """Returns the convolutions, with random weights."""
        return EfficientNetLite(EfficientNetLiteConfig())

    @classmethod
    def from_trunk(cls, config: LookJudgeConfig, trunk: Trunk, frozen_stages: CountOrZero = 0) -> Self:
        """Returns a judge whose convolutions are those of `trunk`; the first `frozen_stages` are not trained on."""
        judge = cls(config)
        judge.trunk.load_state_dict(trunk.state_dict())
        judge.trunk.freeze(frozen_stages)
        return judge

    def forward(self, images: Tensor) -> LookReading:
        """Returns style, finish and concept of images `(B, 3, H, W)` in [-1, 1]."""
        large = interpolate(images, size=(self.config.size,) * 2, mode="bilinear", align_corners=False)
        stages, features = self.trunk(large)
        branches = [branch(images).float() for branch in (self.colour, self.texture, self.histogram)]
        looks = torch.cat([*(statistics(stage.float()) for stage in stages), *branches], dim=1)
        return LookReading(
            normalize(self.style_head(looks).float(), dim=1),
            self.finish_head(looks).float(),
            self.concept_head(features.float().mean((2, 3))).float(),
        )


def build_look_head(width: int, hidden: int, out: int) -> nn.Sequential:
    """Returns a head on vectors `(B, width)`."""
    return nn.Sequential(
        nn.BatchNorm1d(width), nn.Dropout(0.1), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, out)
    )


def pick_looks(pictures: Tensor, references: Tensor) -> Tensor:
    """Returns the index of the candidate look nearest to each image, int64 `(B,)`, by style vectors.

    They are `(B, E)`, and `(B, candidates, R, E)` of `R` images of each candidate look.
    """
    centres = normalize(references.mean(2), dim=-1)
    return (centres @ pictures[..., None]).squeeze(-1).argmax(1)
