"""Qwen3-VL (Qwen team 2025): several layers of the vision encoder enter the first decoder layers (DeepStack)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pmg.families.qwen2_vl import Qwen2VL


class Qwen3VL(Qwen2VL):
    """Qwen3-VL: positions as in Qwen2-VL; a picture's features are S - 1 more than its embeddings."""

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
