"""The small diffusion transformer, and the transformer as a denoiser.

It is PixArt-alpha's (Chen et al. 2024), but its modulation also depends on a pooled vector. It is built from blocks of
diffusers, whose own `PixArtTransformer2DModel` takes no pooled vector.

Shapes: `B` batch, `C, h, w` latents, `L` tokens of the condition, `D` the transformer's width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import CombinedTimestepTextProjEmbeddings, PatchEmbed, PixArtAlphaTextProjection
from torch import Tensor, nn
from torch.nn.functional import silu

from pmg.configuration.ranges import Count
from pmg.models.diffusion.conditioning import Condition
from pmg.models.diffusion.cross_attention import CrossAttentionCache, attention_for, precompute_keys_values
from pmg.models.diffusion.diffusers_denoiser import DiffusersDenoiser
from pmg.models.diffusion.interfaces import Capabilities
from pmg.models.diffusion.sequences import hide, token_bias


class PooledTransformer2DModel(ModelMixin, ConfigMixin):
    """Cross-attends to tokens in each block; time and pooled vector give one modulation for all blocks.

    Latents have `in_channels`, in and out, and the side `sample_size`; a patch of the side `patch_size` becomes one
    token. `D` is the number of heads, of self- and cross-attention, times the width of one. `caption_channels` is the
    width of the condition's tokens.
    """

    @register_to_config
    def __init__(
        self, sample_size: Count = 8, patch_size: Count = 2, in_channels: Count = 16, *, num_layers: Count = 8,
        num_attention_heads: Count = 8, attention_head_dim: Count = 32, caption_channels: Count = 384,
        pooled_projection_dim: Count = 768,
    ) -> None:  # fmt: skip
        super().__init__()
        width = num_attention_heads * attention_head_dim
        self.pos_embed = PatchEmbed(sample_size, sample_size, patch_size, in_channels, width)
        self.time_embed = CombinedTimestepTextProjEmbeddings(width, pooled_projection_dim)
        self.modulation = nn.Linear(width, 6 * width)
        self.caption_projection = PixArtAlphaTextProjection(caption_channels, width)
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(
                width, num_attention_heads, attention_head_dim, cross_attention_dim=width, attention_bias=True,
                activation_fn="gelu-approximate", norm_type="ada_norm_single", norm_elementwise_affine=False,
            )
            for _ in range(num_layers)
        )  # fmt: skip
        self.norm_out = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation_out = nn.Linear(width, 2 * width)
        self.proj_out = nn.Linear(width, patch_size**2 * in_channels)
        self._initialise()

    def _initialise(self) -> None:
        """As PixArt-alpha: cross-attention adds nothing at the start; the last layer is small, not zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for name, weight in self.named_parameters():
            if name.endswith("attn2.to_out.0.weight"):
                nn.init.zeros_(weight)
        nn.init.zeros_(self.modulation_out.weight)
        for layer in (self.modulation, self.proj_out):
            nn.init.normal_(layer.weight, std=0.02)

    def forward(
        self, hidden_states: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, pooled_projections: Tensor,
        token_bias: Tensor, cache: CrossAttentionCache | None = None,
    ) -> Tensor:  # fmt: skip
        """Returns the prediction `(B, C, h, w)` of noisy latents at a `timestep` `(B,)`, 0 to 1000.

        The condition's tokens are `(B, L, caption_channels)` and their `token_bias` `(B, L)`; with a `cache` of
        `precompute`, for a `WeightedAttention`, their keys and values aren't computed.
        """
        time = silu(self.time_embed(timestep, pooled_projections))
        modulation = self.modulation(time)
        tokens = encoder_hidden_states if cache else self.caption_projection(encoder_hidden_states)
        states, bias = self.pos_embed(hidden_states), token_bias[:, None]
        cached = {"cache": cache} if cache else None
        for block in self.transformer_blocks:
            states = block(
                states, encoder_hidden_states=tokens, encoder_attention_mask=bias, timestep=modulation,
                cross_attention_kwargs=cached,
            )  # fmt: skip
        shift, scale = self.modulation_out(time)[:, None].chunk(2, -1)
        patches, size = self.proj_out(self.norm_out(states) * (1 + scale) + shift), self.config.patch_size
        places = self.config.sample_size // size
        grid = patches.unflatten(2, (size, size, -1)).unflatten(1, (places, places))
        return torch.einsum("nhwpqc->nchpwq", grid).flatten(4, 5).flatten(2, 3)

    def precompute(self, tokens: Tensor) -> CrossAttentionCache:
        """Returns keys and values of a condition's tokens `(B, L, caption_channels)`, the same at each time."""
        return precompute_keys_values(self, self.caption_projection(tokens))


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

    folder, kind = "transformer", PooledTransformer2DModel

    def __init__(self, model: PooledTransformer2DModel) -> None:
        super().__init__(model, PooledTransformerAdapter(model))
        attention = attention_for((model.config.sample_size // model.config.patch_size) ** 2)
        for layer in model.modules():
            if isinstance(layer, Attention):
                layer.set_processor(attention)

    def forward(self, noisy: Tensor, times: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Returns the prediction `(B, C, h, w)`, see `DiffusersDenoiser`."""
        return self.model(noisy, times, **inputs)
