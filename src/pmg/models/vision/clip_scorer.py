"""CLIP or SigLIP as the scorer: the same image vector serves as content vector and as style vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from pmg.domain import PmgError
from pmg.models.diffusion.conditioning import TextBlock
from pmg.models.diffusion.text_encoder import TextEncoder
from pmg.models.image_passes import fit_size
from pmg.models.loading.checkpoints import load_checkpoint, load_tokenizer
from pmg.models.loading.device import device_of, torch_type
from pmg.models.loading.weight_sources import loading, resolve_source
from pmg.models.vision.pixels import ChannelNormalization
from pmg.models.vision.scorer import unit


class ClipTexts(TextEncoder):
    """The text tower of CLIP or SigLIP: pooled vectors are features in the space shared with images."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(model, tokenizer, model.config.text_config.max_position_embeddings)
        # SigLIP was trained on texts of one length, without a mask
        self.masks = "siglip" not in model.config.model_type

    def _encode(self, texts: list[str]) -> TextBlock:
        self.check_lengths(texts)
        # transformers warns of a `max_length` that it doesn't use
        padding = {"padding": True} if self.masks else {"padding": "max_length", "max_length": self.max_length}
        batch = self.tokenizer(texts, **padding, return_tensors="pt").to(self.model.device)
        read = self.model.get_text_features(batch["input_ids"], batch["attention_mask"] if self.masks else None)
        features = read.pooler_output
        mask = torch.ones_like(batch["input_ids"], dtype=torch.bool)
        return TextBlock(features[:, None].expand(-1, mask.shape[1], -1), mask, features.float())


class ClipScorer(nn.Module):
    """Frozen dual encoder (Radford et al. 2021): CLIP or SigLIP, with the normalisation of its images' channels."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, mean: list[float], std: list[float]
    ) -> None:
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        self.text_encoder = ClipTexts(model, tokenizer)
        self.size = model.config.vision_config.image_size
        self.normalize = ChannelNormalization(mean, std)

    @classmethod
    def from_source(cls, source: str, dtype: str = "float32", processors: str | None = None) -> ClipScorer:
        """Loads a dual encoder from a hub id or folder; PmgError if it is missing, damaged, or another model.

        `processors` has the tokenizer and the statistics of pixels; None: `source` has them.
        """
        path, beside = resolve_source(source), resolve_source(processors or source)
        with loading("a scorer", path):
            model = load_checkpoint(AutoModel, path, dtype=torch_type(dtype))
            tokenizer = load_tokenizer(beside, model)
            processor = AutoImageProcessor.from_pretrained(beside, trust_remote_code=False)
        if not hasattr(model, "get_image_features"):
            raise PmgError(
                f"{path} has a {type(model).__name__}, which has no features of images and texts. Use CLIP or SigLIP."
            )
        return cls(model, tokenizer, processor.image_mean, processor.image_std)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return device_of(self.model)

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns unit vectors `(B, D)` of images `(B, 3, H, W)` in [-1, 1], twice: as content and as style."""
        pixels = self.normalize(fit_size(images, self.size))
        features = unit(self.model.get_image_features(pixel_values=pixels.to(self.model.dtype)).pooler_output).cpu()
        return features, features

    def encode_target(self, pooled: Tensor) -> Tensor:
        """Returns unit vectors `(B, D)` of texts, of targets or preferences, from their features."""
        return unit(pooled)

    encode_preference = encode_target
