"""Frozen encoders of whole images for judges: a vision transformer's class token, CLIP, Inception."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModel, PreTrainedModel

from pmg.domain import PmgError
from pmg.models.loading.checkpoints import load_checkpoint
from pmg.models.loading.device import torch_type
from pmg.models.loading.weight_sources import loading, resolve_source
from pmg.models.vision.clip_scorer import ClipScorer
from pmg.models.vision.image_sizes import fit_size

BATCH = 32  # images that an encoder sees at once


class ImageFeatures(Protocol):
    """A frozen encoder: one vector an image."""

    def __call__(self, images: Tensor) -> Tensor:
        """Vectors `(B, D)` of images `(B, 3, H, W)` in [-1, 1]: float32, on the processor wherever the model is."""


class TextFeatures(ImageFeatures, Protocol):
    """One that puts texts into the same space."""

    max_length: int

    def count_tokens(self, text: str) -> int:
        """Length of a text in tokens, special tokens included."""

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors `(B, D)` of texts of at most `max_length` tokens."""


def encode_images(features: ImageFeatures, images: Tensor) -> Tensor:
    """Vectors `(N, D)` of any number of images, `BATCH` at a time."""
    return torch.cat([features(part) for part in images.split(BATCH)])


class VisionFeatures(nn.Module):
    """The class token of a vision transformer: DINO, DINOv2 (Oquab et al. 2023), DINOv3, ViT.

    Images are scaled whole to the side that the processor names; its crop is left out, which would cut the edge off.

    Args:
        model: gives ``last_hidden_state``, whose first token stands for the image.
        size: pixels a side that it sees.
        mean: of each channel of an image in [0, 1], as it was trained.
        std: deviation of each channel.
    """

    def __init__(self, model: PreTrainedModel, size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        self.size = size
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))

    @classmethod
    def from_source(cls, source: str, dtype: str = "float32") -> VisionFeatures:
        """Loads it from a hub id or a folder.

        Raises:
            PmgError: the source is missing, damaged, or no vision transformer.
        """
        path = resolve_source(source)
        with loading("a vision transformer", path):
            model = load_checkpoint(AutoModel, path, unused=("pooler.",), dtype=torch_type(dtype))
            looks = AutoImageProcessor.from_pretrained(path, trust_remote_code=False)
        if not hasattr(model.config, "patch_size") or hasattr(model.config, "text_config"):
            raise PmgError(
                f"{path} holds a {type(model).__name__}, which has no class token; use DINOv2 or another vision "
                "transformer, and ClipFeatures for CLIP"
            )
        return cls(model, seen_size(looks), looks.image_mean, looks.image_std)

    def train(self, mode: bool = True) -> VisionFeatures:
        """Stays in evaluation mode: it is frozen."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Class tokens `(B, D)` after the last norm; see `ImageFeatures`."""
        pixels = fit_size(images, self.size).to(self.mean).add(1).div(2).sub(self.mean).div(self.std)
        return self.model(pixel_values=pixels.to(self.model.dtype)).last_hidden_state[:, 0].float().cpu()


def seen_size(processor: Any) -> int:
    """Pixels a side of what an image processor of transformers hands to its model."""
    crops = getattr(processor, "do_center_crop", None) and processor.crop_size
    side = crops or processor.size
    return side.get("height") or side["shortest_edge"]


class ClipFeatures(nn.Module):
    """CLIP or SigLIP as a judge: unit vectors of images and texts in one space (Radford et al. 2021).

    Args:
        clip: the same reader of checkpoints that serves as a scorer; never the very model that selects.
    """

    def __init__(self, clip: ClipScorer) -> None:
        super().__init__()
        self.clip = clip
        self.max_length = clip.text_encoder.max_length

    @classmethod
    def from_source(cls, source: str, dtype: str = "float32") -> ClipFeatures:
        """Loads it from a hub id or a folder; see `ClipScorer.from_source`."""
        return cls(ClipScorer.from_source(source, dtype))

    def train(self, mode: bool = True) -> ClipFeatures:
        """Stays in evaluation mode: it is frozen."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Unit vectors `(B, D)`; see `ImageFeatures`."""
        return self.clip(images)[0]

    def count_tokens(self, text: str) -> int:
        """Length of a text in tokens, special tokens included."""
        return self.clip.text_encoder.count_tokens(text)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors `(B, D)` of texts.

        Raises:
            PmgError: a text is longer than `max_length`.
        """
        return self.clip.encode_target(self.clip.text_encoder.encode(texts).pooled)


class InceptionFeatures(nn.Module):
    """Inception v3 as FID has always used it (Heusel et al. 2017): 2,048 pooled activations, by torch-fidelity.

    Args:
        weights: file of its state; null: torch-fidelity fetches it when it is first used.

    Raises:
        PmgError: torch-fidelity is not installed, or the weights can't be had.
    """

    def __init__(self, weights: str | None = None) -> None:
        from torchmetrics.image.fid import NoTrainInceptionV3

        super().__init__()
        try:
            self.model = NoTrainInceptionV3("inception-v3-compat", ["2048"], weights).requires_grad_(False)
        except ModuleNotFoundError:
            raise PmgError("Inception needs torch-fidelity: pip install 'pmg[inception]'") from None
        except Exception as error:  # a failed download and a damaged file raise different things
            reason = " ".join(str(error).split())[:200]
            raise PmgError(
                f"Inception's weights can't be had ({type(error).__name__}: {reason}); name a file that holds them "
                "by the key weights"
            ) from error

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Activations `(B, 2048)`; see `ImageFeatures`. Images are scaled inside, to 299 pixels."""
        device = next(self.model.parameters()).device
        levels = images.to(device).add(1).mul(127.5).round().clamp(0, 255).byte()
        return self.model(levels).float().cpu()
