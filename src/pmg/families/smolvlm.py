"""SmolVLM (Marafioti et al. 2025): pictures as squares of SigLIP's patches, shuffled into fewer, wider tokens."""

from __future__ import annotations

from math import isqrt
from typing import Any

from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pmg.families.common.vision_language_model import VisionLanguageModel, token_number


class SmolVLM(VisionLanguageModel):
    """SmolVLM and SmolVLM2; a picture is read whole, not in tiles."""

    model_type = "smolvlm"

    @staticmethod
    def measure(config: Any, tokens_per_picture: int) -> tuple[int, int]:
        """Returns the side of pictures in pixels, at most that of the training, and their number of tokens."""
        pixels = config.vision_config.patch_size * config.scale_factor  # a side of one token
        tokens = min(isqrt(tokens_per_picture), config.vision_config.image_size // pixels)
        return tokens * pixels, tokens**2

    @staticmethod
    def frame(config: Any, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], int, list[int]]:
        """Returns the tokens around a picture, see `VisionLanguageModel.frame`."""
        edge, whole = (token_number(tokenizer, name) for name in ("<fake_token_around_image>", "<global-img>"))
        return [edge, whole], config.image_token_id, [edge]

    def processed(self, pictures: list[Image.Image]) -> dict[str, Tensor]:
        """Returns pixels and their mask, see `VisionLanguageModel.processed`."""
        found = self.image_processor(
            [[picture] for picture in pictures], do_resize=False, do_image_splitting=False,
            max_image_size={"longest_edge": self.side}, return_tensors="pt",
        )  # fmt: skip
        return {name: found[name] for name in ("pixel_values", "pixel_attention_mask")}
