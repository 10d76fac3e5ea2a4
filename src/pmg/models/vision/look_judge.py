"""The judge of looks: style vector, finish and concept of an image; used for metrics only, never for selection.

Shapes: `B` images, `E` width of a style vector, `K` concepts, `P` values of a finish.
"""

from __future__ import annotations

from dataclasses import dataclass

import lpips
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate, normalize
from transformers import PreTrainedConfig, PreTrainedModel

from pmg.models.loading.weight_sources import load_frozen
from pmg.models.vision.backbones import PALETTE, ColourBranch, HistogramBranch, TextureBranch
from pmg.models.vision.judge import CHANNELS, build_trunk, statistics
from pmg.models.vision.perceptual import PerceptualDistance

COLOUR_STRIDE, TEXTURE = 4, (16, 64)  # a third of the default branches' time
PLACES = 3  # pooled positions a side for the concept


@dataclass(frozen=True)
class LookReading:
    """Outputs of the judge.

    Attributes:
        style: unit vectors `(B, E)`; those of one look are similar.
        finish: values of the finish, `(B, P)`, see `pmg.data.emoji.finish_targets`.
        concept: logits `(B, K)`.
    """

    style: Tensor
    finish: Tensor
    concept: Tensor


class LookJudgeConfig(PreTrainedConfig):
    """Sizes and classes of a `LookJudge`.

    Args:
        size: AlexNet's input size in pixels; images are resized to it.
        hidden: width of the heads' hidden layers.
        width: of a style vector.
        bins: levels a channel of the colour histogram.
        values: numbers `P` that describe a finish.
        concepts: names of the concept classes.
    """

    model_type = "pmg_look_judge"

    def __init__(
        self, size: int = 112, hidden: int = 256, width: int = 128, bins: int = 8, values: int = 24,
        concepts: tuple[str, ...] = ("concept",), **kwargs: object,
    ) -> None:  # fmt: skip
        self.size, self.hidden, self.width, self.bins, self.values = size, hidden, width, bins, values
        self.concepts = list(concepts)
        super().__init__(**kwargs)


class LookJudge(PreTrainedModel):
    """AlexNet's convolutions with three heads.

    The heads of style and finish get each layer's mean and standard deviation over positions (Huang & Belongie 2017)
    and the colour, texture and histogram branches; the concept head gets the last layer, pooled to `PLACES` positions
    a side.
    """

    config_class = LookJudgeConfig

    def __init__(self, config: LookJudgeConfig) -> None:
        super().__init__(config)
        self.scaling, self.trunk = lpips.ScalingLayer(), build_trunk()
        self.colour, self.texture = ColourBranch(COLOUR_STRIDE), TextureBranch(*TEXTURE)
        self.histogram = HistogramBranch(config.bins, PALETTE)
        looks, places = 2 * sum(CHANNELS) + 2 * PALETTE + TEXTURE[1], CHANNELS[-1] * PLACES**2
        self.style_head = build_look_head(looks, config.hidden, config.width)
        self.finish_head = build_look_head(looks, config.hidden, config.values)
        self.concept_head = build_look_head(places, 2 * config.hidden, len(config.concepts))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Keeps torch's initialisation: transformers' standard deviation of 0.02 is too small for shallow branches."""

    @classmethod
    def from_folder(cls, folder: str) -> LookJudge:
        """Loads a frozen judge.

        Raises:
            PmgError: the folder is missing or damaged.
        """
        return load_frozen(cls, folder)

    def start_from(self, perceptual: PerceptualDistance) -> LookJudge:
        """Initialises the convolutions with LPIPS' AlexNet; returns self."""
        self.trunk.load_state_dict(perceptual.network.net.state_dict())
        return self

    def forward(self, images: Tensor) -> LookReading:
        """Returns style, finish and concept of images `(B, 3, H, W)` in [-1, 1]."""
        large = interpolate(images, size=(self.config.size,) * 2, mode="bilinear", align_corners=False)
        layers = [layer.float() for layer in self.trunk(self.scaling(large))]
        branches = [branch(images).float() for branch in (self.colour, self.texture, self.histogram)]
        looks = torch.cat([*map(statistics, layers), *branches], dim=1)
        places = adaptive_avg_pool2d(layers[-1], PLACES).flatten(1)
        return LookReading(
            normalize(self.style_head(looks).float(), dim=1),
            self.finish_head(looks).float(),
            self.concept_head(places).float(),
        )


def build_look_head(width: int, hidden: int, out: int) -> nn.Sequential:
    """Returns a head on vectors `(B, width)`."""
    return nn.Sequential(
        nn.BatchNorm1d(width), nn.Dropout(0.1), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, out)
    )


def pick_looks(pictures: Tensor, references: Tensor) -> Tensor:
    """Returns the index of the candidate look nearest to each image, int64 `(B,)`.

    Args:
        pictures: style vectors `(B, E)`.
        references: style vectors of `R` images of each candidate look, `(B, candidates, R, E)`.
    """
    centres = normalize(references.mean(2), dim=-1)
    return (centres @ pictures[..., None]).squeeze(-1).argmax(1)
