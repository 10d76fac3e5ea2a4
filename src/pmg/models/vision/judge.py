"""The judge: classifiers of style and concept, trained on real images; used for metrics only, never for selection."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import lpips
import torch
from lpips.pretrained_networks import alexnet
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate
from transformers import PreTrainedConfig

from pmg.models.vision.backbones import PALETTE, ColourBranch, HistogramBranch, TextureBranch
from pmg.models.vision.embedded_model import EmbeddedModel
from pmg.models.vision.perceptual import PerceptualDistance

CHANNELS = (64, 192, 384, 256, 256)  # of AlexNet's five layers
PLACES = 2  # pooled positions a side for the concept


class JudgeConfig(PreTrainedConfig):
    """Sizes and classes of a `Judge`.

    Args:
        size: AlexNet's input size in pixels; images are resized to it.
        hidden: width of the heads' hidden layers.
        bins: levels a channel of the colour histogram.
        styles: names of the style classes.
        concepts: names of the concept classes.
    """

    model_type = "pmg_judge"

    def __init__(
        self, size: int = 112, hidden: int = 128, bins: int = 12,
        styles: Sequence[str] = ("style",), concepts: Sequence[str] = ("concept",), **kwargs: object,
    ) -> None:  # fmt: skip
        self.size, self.hidden, self.bins = size, hidden, bins
        self.styles, self.concepts = list(styles), list(concepts)
        super().__init__(**kwargs)


class Judge(EmbeddedModel):
    """AlexNet's convolutions with a style head and a concept head.

    The style head gets each layer's mean and standard deviation over positions, the statistics of AdaIN (Huang &
    Belongie 2017), and the colour, texture and histogram branches; the concept head gets the last layer, pooled to
    `PLACES` positions a side.
    """

    config_class = JudgeConfig

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__(config)
        self.scaling, self.trunk = lpips.ScalingLayer(), build_trunk()
        self.colour, self.texture = ColourBranch(), TextureBranch()
        self.histogram = HistogramBranch(config.bins, PALETTE)
        looks, places = 2 * sum(CHANNELS) + 3 * PALETTE, CHANNELS[-1] * PLACES**2
        self.style_head = build_head(looks, config.hidden, len(config.styles))
        self.concept_head = build_head(places, 2 * config.hidden, len(config.concepts))
        self.post_init()

    @property
    def styles(self) -> list[str]:
        """Names of the style classes."""
        return self.config.styles

    @property
    def concepts(self) -> list[str]:
        """Names of the concept classes."""
        return self.config.concepts

    def start_from(self, perceptual: PerceptualDistance) -> Judge:
        """Initialises the convolutions with LPIPS' AlexNet; returns self."""
        self.trunk.load_state_dict(perceptual.network.net.state_dict())
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns style logits `(B, S)` and concept logits `(B, K)` of images `(B, 3, H, W)` in [-1, 1]."""
        large = interpolate(images, size=(self.config.size,) * 2, mode="bilinear", align_corners=False)
        layers = [layer.float() for layer in self.trunk(self.scaling(large))]
        branches = [branch(images).float() for branch in (self.colour, self.texture, self.histogram)]
        style = self.style_head(torch.cat([*map(statistics, layers), *branches], dim=1))
        return style, self.concept_head(adaptive_avg_pool2d(layers[-1], PLACES).flatten(1))


def build_trunk() -> nn.Module:
    """Returns AlexNet's five layers, untrained; its output are the activations of each."""
    with warnings.catch_warnings():  # the package calls torchvision with arguments that it deprecated
        warnings.simplefilter("ignore")
        return alexnet(requires_grad=True, pretrained=False)


def build_head(width: int, hidden: int, classes: int) -> nn.Sequential:
    """Returns a classifier of vectors `(B, width)`."""
    return nn.Sequential(
        nn.BatchNorm1d(width), nn.Dropout(0.3), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, classes)
    )


def statistics(layer: Tensor) -> Tensor:
    """Returns mean and standard deviation `(B, 2 * C)` over the positions of `(B, C, h, w)`."""
    mean, variance = layer.mean((2, 3)), layer.var((2, 3), unbiased=False)
    return torch.cat([mean, (variance + 1e-5).sqrt()], dim=1)
