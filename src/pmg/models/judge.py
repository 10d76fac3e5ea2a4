"""The judge: classifiers of style and concept, trained on real drawings; reports, never selects."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from pmg.models.sources import load_frozen
from pmg.models.vision import DrawingEncoder


class JudgeConfig(PreTrainedConfig):
    """Sizes and classes of a `Judge`.

    Args:
        widths: channels of the image encoder's stages.
        depths: blocks of its stages.
        bins: levels a channel of its colour histogram.
        styles: names of the style classes.
        concepts: names of the concept classes.
    """

    model_type = "pmg_judge"

    def __init__(
        self, widths: tuple[int, ...] = (48, 96, 128, 192), depths: tuple[int, ...] = (1, 1, 1, 1), bins: int = 12,
        styles: tuple[str, ...] = ("style",), concepts: tuple[str, ...] = ("concept",), **kwargs: object,
    ) -> None:  # fmt: skip
        self.widths, self.depths, self.bins = list(widths), list(depths), bins
        self.styles, self.concepts = list(styles), list(concepts)
        super().__init__(**kwargs)


class Judge(PreTrainedModel):
    """One image encoder, two linear heads."""

    config_class = JudgeConfig

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__(config)
        self.encoder = DrawingEncoder(config.widths, config.depths, config.bins)
        self.style_head = nn.Linear(self.encoder.width, len(config.styles))
        self.concept_head = nn.Linear(self.encoder.width, len(config.concepts))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Keeps torch's own start: transformers' deviation of 0.02 is far too small for shallow branches."""

    @property
    def styles(self) -> list[str]:
        """Names of the style classes."""
        return self.config.styles

    @property
    def concepts(self) -> list[str]:
        """Names of the concept classes."""
        return self.config.concepts

    @classmethod
    def from_folder(cls, folder: str) -> Judge:
        """Loads it frozen, with a clear error where the folder is missing or damaged."""
        return load_frozen(cls, folder)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Style logits `(B, S)` and concept logits `(B, K)` of images `(B, 3, H, W)` in [-1, 1]."""
        features = self.encoder(images)
        return self.style_head(features), self.concept_head(features)
