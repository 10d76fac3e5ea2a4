"""Qwen2-VL (Wang et al. 2024), 2.5-VL (Bai et al. 2025), 3-VL (Qwen 2025): positions are rows and columns (M-RoPE)."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pmg.families.common.vision_language_model import VisionLanguageModel


class Qwen2VL(VisionLanguageModel):
    """Qwen2-VL; a picture takes as many positions as it has rows, so that a text ends before its number of tokens."""

    model_type = "qwen2_vl"

    @staticmethod
    def measure(config: Any, tokens_per_picture: int) -> tuple[int, int]:
        """Returns the side of pictures in pixels, and their number of tokens."""
        tokens = isqrt(tokens_per_picture)
        return tokens * config.vision_config.patch_size * config.vision_config.spatial_merge_size, tokens**2

    @staticmethod
    def frame(config: Any, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], int, list[int]]:
        """Returns the tokens around a picture, see `VisionLanguageModel.frame`."""
        return [config.vision_start_token_id], config.image_token_id, [config.vision_end_token_id]

    def processed(self, pictures: list[Image.Image]) -> dict[str, Tensor]:
        """Returns patches and their grids, see `VisionLanguageModel.processed`."""
        found = self.image_processor(pictures, do_resize=False, return_tensors="pt")
        return {name: found[name] for name in ("pixel_values", "image_grid_thw")}

    def reference_inputs(self, shows: Tensor) -> dict[str, Tensor]:
        """Returns the types of tokens, from which the model computes positions."""
        return {"mm_token_type_ids": shows.int()}

    def positions(self, padded: Tensor, real: Tensor, shows: Tensor) -> tuple[Tensor, Tensor]:
        """Returns M-RoPE's positions `(3, B, L)`, and those of the tokens behind, see `VisionLanguageModel`."""
        rows = self.side // self.model.config.vision_config.patch_size
        pictures = int(shows.sum()) // self.picture_tokens.count(self.picture_token)
        positions, offsets = self.model.base_model.get_rope_index(
            padded.cpu(), shows.int(), torch.tensor([[1, rows, rows]] * pictures), attention_mask=real.int()
        )
        return positions, real.sum(1) + offsets[:, 0]


class Qwen25VL(Qwen2VL):
    """Qwen2.5-VL: as Qwen2-VL, with a vision encoder that attends in windows."""

    model_type = "qwen2_5_vl"


class Qwen3VL(Qwen2VL):
    """Qwen3-VL: several layers of the vision encoder enter the first decoder layers (DeepStack), S - 1 of them."""

    model_type = "qwen3_vl"
    adds_between_layers = True

    def features(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Returns embeddings and what is added behind the first layers, `(B, S, T, width)`."""
        found = self.model.get_image_features(**inputs)
        stacked = [found.pooler_output, *found.deepstack_features]
        return torch.stack([torch.stack(part) for part in stacked], dim=1)

    def layer_inputs(self, shows: Tensor, features: Tensor) -> dict[str, Any]:
        """Returns what is added to the states of pictures, layer by layer."""
        return {"visual_pos_masks": shows, "deepstack_visual_embeds": list(features)}
