"""Frozen image encoders of metrics: class tokens of vision transformers, CLIP, Inception."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModel, PreTrainedModel

from pmg.domain import PmgError
from pmg.installation import install_extra
from pmg.models.image_passes import fit_size
from pmg.models.loading.checkpoints import load_checkpoint
from pmg.models.loading.device import device_of, torch_type
from pmg.models.loading.weight_sources import Frozen, loading, resolve_source
from pmg.models.vision.clip_scorer import ClipScorer
from pmg.models.vision.pixels import ChannelNormalization, to_uint8

BATCH = 32  # images a batch


class ImageFeatures(Protocol):
    """Frozen encoder with one vector an image."""

    def __call__(self, images: Tensor) -> Tensor:
        """Returns float32 vectors `(B, D)` on the CPU of images `(B, 3, H, W)` in [-1, 1]."""


class TextFeatures(ImageFeatures, Protocol):
    """Frozen encoder of images and texts into one space."""

    max_length: int

    def count_tokens(self, text: str) -> int:
        """Returns the length of a text in tokens, special tokens included."""

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Returns unit vectors `(B, D)` of texts of at most `max_length` tokens."""


def encode_images(features: ImageFeatures, images: Tensor) -> Tensor:
    """Returns vectors `(N, D)` of images `(N, 3, H, W)`, computed in batches of `BATCH`."""
    return torch.cat([features(part) for part in images.split(BATCH)])


class VisionFeatures(Frozen):
    """Class token of a vision transformer: DINO, DINOv2 (Oquab et al. 2023), DINOv3, ViT.

    Images are resized to `size` pixels, the model's input size, without the processor's crop, which would remove their
    borders. The model returns ``last_hidden_state``, whose first token is the class token; mean and deviation of each
    channel in [0, 1] normalise pixels.
    """

    def __init__(self, model: PreTrainedModel, size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        self.size = size
        self.normalize = ChannelNormalization(mean, std)

    @classmethod
    def from_source(cls, source: str, dtype: str = "float32") -> VisionFeatures:
        """Loads a vision transformer from a hub id or folder; PmgError if it is missing, damaged, or another model."""
        path = resolve_source(source)
        with loading("a vision transformer", path):
            model = load_checkpoint(AutoModel, path, unused=("pooler.",), dtype=torch_type(dtype))
            processor = AutoImageProcessor.from_pretrained(path, trust_remote_code=False)
        if not hasattr(model.config, "patch_size") or hasattr(model.config, "text_config"):
            raise PmgError(
                f"{path} has a {type(model).__name__}, which has no class token. Use DINOv2 or another vision "
                "transformer, or ClipFeatures for CLIP."
            )
        return cls(model, input_size(processor), processor.image_mean, processor.image_std)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Returns class tokens `(B, D)` after the last norm; see `ImageFeatures`."""
        pixels = self.normalize(fit_size(images, self.size))
        return self.model(pixel_values=pixels.to(self.model.dtype)).last_hidden_state[:, 0].float().cpu()


def input_size(processor: Any) -> int:
    """Returns the model's input size in pixels, from an image processor of transformers."""
    crops = getattr(processor, "do_center_crop", None) and processor.crop_size
    side = crops or processor.size
    return side.get("height") or side["shortest_edge"]


class ClipFeatures(Frozen):
    """CLIP or SigLIP for metrics: unit vectors of images and texts in one space (Radford et al. 2021).

    It must not be the model that selects candidates.
    """

    def __init__(self, clip: ClipScorer) -> None:
        super().__init__()
        self.clip = clip
        self.max_length = clip.text_encoder.max_length

    @classmethod
    def from_source(cls, source: str, dtype: str = "float32", processors: str | None = None) -> ClipFeatures:
        """Loads CLIP or SigLIP from a hub id or a folder; see `ClipScorer.from_source`.

        `processors` is where its tokenizer and statistics of pixels are, if `source` has weights alone.
        """
        return cls(ClipScorer.from_source(source, dtype, processors))

    def forward(self, images: Tensor) -> Tensor:
        """Returns unit vectors `(B, D)`; see `ImageFeatures`."""
        return self.clip(images)[0]

    def count_tokens(self, text: str) -> int:
        """Returns the length of a text in tokens, special tokens included."""
        return self.clip.text_encoder.count_tokens(text)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Returns unit vectors `(B, D)` of texts; PmgError if one is longer than `max_length`."""
        return self.clip.encode_target(self.clip.text_encoder.encode(texts).pooled)


class InceptionFeatures(nn.Module):
    """Inception v3 of FID (Heusel et al. 2017): 2,048 pooled activations, by torch-fidelity.

    `weights` is the file of its state; null: torch-fidelity downloads it at the first use. PmgError if torch-fidelity
    is not installed, or the weights can't be loaded.
    """

    def __init__(self, weights: str | None = None) -> None:
        from torchmetrics.image.fid import NoTrainInceptionV3

        super().__init__()
        try:
            self.model = NoTrainInceptionV3("inception-v3-compat", ["2048"], weights).requires_grad_(False)
        except ModuleNotFoundError:
            raise PmgError(f"Inception needs torch-fidelity: {install_extra('inception')}") from None
        except Exception as error:  # a failed download and a damaged file raise different things
            reason = " ".join(str(error).split())[:200]
            raise PmgError(
                f"Inception's weights can't be loaded ({type(error).__name__}: {reason}). Set weights to their file."
            ) from error

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Returns activations `(B, 2048)`; see `ImageFeatures`. Images are resized to 299 pixels."""
        device = device_of(self.model)
        return self.model(to_uint8(images.to(device))).float().cpu()
