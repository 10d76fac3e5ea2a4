"""The scorer: a dual encoder that selects candidates, and is therefore not used for metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, ResNetConfig, ResNetModel

from pmg.models.diffusion.interfaces import PromptEncoder
from pmg.models.image_passes import fit_size
from pmg.models.loading.weight_sources import EmbeddedModel


class Scorer(Protocol):
    """Vectors of images and of texts, whose cosines are the scores d_t and d_p."""

    @property
    def text_encoder(self) -> PromptEncoder | None:
        """Whose pooled vectors it takes; None: those of the config's ``text_encoder``."""

    @property
    def device(self) -> torch.device:
        """Where its images have to be."""

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns content and style vectors of length 1, `(B, D)` each, of images `(B, 3, H, W)` in [-1, 1]."""

    def encode_target(self, pooled: Tensor) -> Tensor:
        """Returns unit vectors of target texts, `(B, D)`, from their pooled vectors: compared with the content."""

    def encode_preference(self, pooled: Tensor) -> Tensor:
        """Returns unit vectors of keywords, `(B, D)`, from their pooled vectors: compared with the style."""


class ImageEncoder(nn.Module):
    """Encodes an image as one vector: `(B, 3, H, W)` in [-1, 1] as `(B, width)`, normalised by ``norm``."""

    norm: nn.BatchNorm1d

    @property
    def width(self) -> int:
        """Width of the vector."""
        return self.norm.num_features


class ResNetEncoder(ImageEncoder):
    """A residual network (He et al. 2015) with its mean over positions; `depths` blocks of `widths` a stage."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        self.shape = ResNetModel(
            ResNetConfig(embedding_size=widths[0], hidden_sizes=list(widths), depths=list(depths), layer_type="basic")
        )
        self.norm = nn.BatchNorm1d(widths[-1])

    def forward(self, images: Tensor) -> Tensor:
        """Returns vectors `(B, width)` of images `(B, 3, H, W)` in [-1, 1]."""
        return self.norm(self.shape(images).pooler_output.flatten(1).float())


class ScorerConfig(PreTrainedConfig):
    """Sizes of an `EmbeddedScorer`: channels and blocks of images, width `D` of pooled texts; `size` in pixels."""

    model_type = "pmg_scorer"

    def __init__(
        self, widths: tuple[int, ...] = (48, 96, 128, 192), depths: tuple[int, ...] = (1, 1, 1, 1),
        width: int = 384, size: int = 64, **kwargs: object,
    ) -> None:  # fmt: skip
        self.widths, self.depths, self.width, self.size = list(widths), list(depths), width, size
        super().__init__(**kwargs)


class EmbeddedScorer(EmbeddedModel):
    """Image encoder over a frozen text encoder, with cosine similarities as in CLIP (Radford et al. 2021).

    An image has two vectors, content and style, since the balance compares it with the target and with the preference.
    """

    config_class: type[PreTrainedConfig] = ScorerConfig
    encoder: ImageEncoder
    text_encoder = None  # pooled vectors come from the text encoder that the scorer was trained with

    def __init__(self, config: ScorerConfig) -> None:
        super().__init__(config)
        self.encoder = self.build_encoder(config)
        self.content = nn.Linear(self.encoder.width, config.width)
        self.manner = nn.Linear(self.encoder.width, config.width)
        self.text_content = nn.Linear(config.width, config.width)
        self.text_manner = nn.Linear(config.width, config.width)
        self.temperature = nn.Parameter(torch.tensor(math.log(10.0)))
        self.post_init()

    @classmethod
    def build_encoder(cls, config: ScorerConfig) -> ImageEncoder:
        """Returns the untrained image encoder: images `(B, 3, H, W)` in [-1, 1] to vectors `(B, encoder.width)`."""
        return ResNetEncoder(config.widths, config.depths)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns content and style unit vectors, `(B, D)` each, of images `(B, 3, H, W)` in [-1, 1] of any size."""
        features = self.encoder(fit_size(images, self.config.size))
        return unit(self.content(features)), unit(self.manner(features))

    def encode_target(self, pooled: Tensor) -> Tensor:
        """Returns unit vectors `(B, D)` of target texts from their pooled vectors."""
        return unit(self.text_content(pooled))

    def encode_preference(self, pooled: Tensor) -> Tensor:
        """Returns unit vectors `(B, D)` of preference texts from their pooled vectors."""
        return unit(self.text_manner(pooled))


def unit(vectors: Tensor) -> Tensor:
    """Returns vectors divided by their length."""
    return nn.functional.normalize(vectors.float(), dim=-1)
