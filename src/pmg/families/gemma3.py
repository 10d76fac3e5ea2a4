"""Gemma 3 (Gemma team 2025): 256 tokens a picture, which attend to each other in both directions."""

from __future__ import annotations

from typing import Any

from PIL import Image
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from pmg.domain import PmgError
from pmg.families.common.vision_language_model import VisionLanguageModel
from pmg.models.language.grouped_attention import additive_mask, causal_mask


class Gemma3(VisionLanguageModel):
    """Gemma 3 with its vision encoder (4B and more)."""

    model_type = "gemma3"

    def longest(self, config: PreTrainedConfig) -> int | None:
        """Returns the longest position: sliding windows are in the masks."""
        return config.max_position_embeddings

    @staticmethod
    def measure(config: Any, tokens_per_picture: int) -> tuple[int, int]:
        """Returns the checkpoint's side and number of tokens of pictures; PmgError if the budget is smaller."""
        tokens = config.mm_tokens_per_image
        if tokens_per_picture < tokens:
            raise PmgError(
                f"language_model.tokens_per_picture is {tokens_per_picture}, and this Gemma 3 reads each "
                f"picture as {tokens} tokens: raise it to {tokens}"
            )
        return config.vision_config.image_size, tokens

    @staticmethod
    def frame(config: Any, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], int, list[int]]:
        """Returns the tokens around a picture, see `VisionLanguageModel.frame`."""
        gap = tokenizer("\n\n", add_special_tokens=False).input_ids
        return [*gap, config.boi_token_index], config.image_token_id, [config.eoi_token_index, *gap]

    def processed(self, pictures: list[Image.Image]) -> dict[str, Tensor]:
        """Returns pixels, see `VisionLanguageModel.processed`."""
        found = self.image_processor(pictures, do_resize=False, do_pan_and_scan=False, return_tensors="pt")
        return {"pixel_values": found["pixel_values"]}

    def reference_inputs(self, shows: Tensor) -> dict[str, Tensor]:
        """Returns the types of tokens, by which those of a picture attend to each other."""
        return {"token_type_ids": shows.int()}

    def visible(self, real: Tensor, shows: Tensor) -> Tensor:
        """Returns the mask: a token of a picture attends to the whole picture, see `VisionLanguageModel`."""
        begins = shows & ~shows.roll(1, dims=1)
        number = begins.cumsum(1)
        same = (number[:, :, None] == number[:, None]) & shows[:, :, None] & shows[:, None]
        return causal_mask(real) | same

    def mask_layers(self, seen: Tensor, queries: Tensor, keys: Tensor) -> dict[str, Tensor]:
        """Returns a mask for each kind of layers: some see the latest tokens alone, see `LanguageModel`."""
        window = self.model.config.get_text_config().sliding_window
        near = queries[:, :, None] - keys[:, None] < window
        masks = {"full_attention": seen, "sliding_attention": seen & near}
        return {kind: additive_mask(mask, self.model) for kind, mask in masks.items()}
