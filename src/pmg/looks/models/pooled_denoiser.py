"""The small diffusion transformer as a denoiser."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers.models.attention_processor import Attention
from torch import Tensor

from pmg.looks.models.pooled_transformer import PooledTransformer2DModel
from pmg.models.diffusion.conditioning import Condition
from pmg.models.diffusion.cross_attention import attention_for
from pmg.models.diffusion.diffusers_denoiser import DiffusersDenoiser
from pmg.models.diffusion.interfaces import Capabilities
from pmg.models.diffusion.sequences import hide, token_bias
from pmg.models.loading.weight_sources import load_frozen


class PooledTransformerAdapter:
    """Conditions as keyword arguments of a `PooledTransformer2DModel`: hidden tokens have a bias of minus infinity."""

    supports = Capabilities(attention_bias=True)

    def __init__(self, model: PooledTransformer2DModel) -> None:
        self.model = model

    def prepare(self, condition: Condition, guidance: float | None = None, reused: bool = False) -> dict[str, Any]:
        """Returns keyword arguments of the transformer, see `ConditionAdapter`."""
        tokens = hide(condition)
        return {
            "encoder_hidden_states": tokens,
            "pooled_projections": condition.pooled_with_soft_mean(),
            "token_bias": token_bias(condition),
            "cache": self.model.precompute(tokens) if reused else None,
        }


class PooledTransformerDenoiser(DiffusersDenoiser):
    """A `PooledTransformer2DModel` with its adapter."""

    folder = "transformer"

    @classmethod
    def from_folder(cls, folder: str | Path) -> PooledTransformerDenoiser:
        """Loads a diffusers folder, frozen, in float32."""
        return cls(load_frozen(PooledTransformer2DModel, folder))

    def __init__(self, model: PooledTransformer2DModel) -> None:
        super().__init__(model, PooledTransformerAdapter(model))
        attention = attention_for((model.config.sample_size // model.config.patch_size) ** 2)
        for layer in model.modules():
            if isinstance(layer, Attention):
                layer.set_processor(attention)

    def forward(self, noisy: Tensor, times: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Returns the prediction `(B, C, h, w)`, see `Denoiser`."""
        return self.model(noisy, times, **inputs)
