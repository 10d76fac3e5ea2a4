"""The denoiser's attention with a weight for each token of the condition."""

from __future__ import annotations

from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch import Tensor

SHORT = 256  # latent places up to which plain matrix products beat the fused kernel (2.35x at 8 x 8, on a processor)


class _Weighted:
    """Cross-attention adds a bias to the logits of each key.

    The bias doesn't go through the denoiser's ``encoder_attention_mask``: diffusers turns that, whatever its type,
    into ``(1 - mask) * -10000``, and ``1 - log(w) / 10000`` keeps four digits of log w in float32 and none in half
    precision.
    """

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None, temb: Tensor | None = None, token_bias: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Attention in the form that diffusers calls.

        Args:
            attn: the layer.
            hidden_states: queries, `(B, N, D)`.
            encoder_hidden_states: the condition's tokens `(B, L, D)`; None is self-attention, which has no bias.
            attention_mask: `(B, 1, L)`, added to the logits.
            temb: for spatial norms alone.
            token_bias: `(B, L)`, added to the logits of the condition's tokens.

        Returns:
            `(B, N, D)`.
        """
        if token_bias is not None and encoder_hidden_states is not None:
            attention_mask = attention_mask + token_bias[:, None].to(attention_mask.dtype)
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)


class WeightedAttention(_Weighted, AttnProcessor):
    """Plain matrix products: fast on small latents."""


class FusedWeightedAttention(_Weighted, AttnProcessor2_0):
    """Torch's fused kernel: large latents, without a matrix of all pairs of places."""


def attention_for(latent_shape: tuple[int, int, int]) -> AttnProcessor | AttnProcessor2_0:
    """The attention for latents `(C, h, w)`."""
    _, height, width = latent_shape
    return WeightedAttention() if height * width <= SHORT else FusedWeightedAttention()
