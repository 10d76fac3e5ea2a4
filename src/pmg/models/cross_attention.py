"""The denoiser's attention with a weight for each token of the condition."""

from __future__ import annotations

from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor


class WeightedAttention(AttnProcessor):
    """Plain attention; cross-attention adds a bias to the logits of each key.

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
