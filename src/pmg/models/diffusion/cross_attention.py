"""The denoiser's attention: a weight for each token of the condition, whose keys and values may be kept."""

from __future__ import annotations

from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

SHORT = 256  # latent places up to which plain matrix products beat the fused kernel (2.35x at 8 x 8, on a processor)
Kept = dict[Attention, tuple[Tensor, Tensor]]
"""Keys and values of one condition in heads, by layer: they stay the same from step to step."""


class WeightedAttention:
    """Cross-attention adds a bias to the logits of each key. Plain matrix products: fast on small latents.

    The bias doesn't go through the denoiser's ``encoder_attention_mask``: diffusers turns that, whatever its type,
    into ``(1 - mask) * -10000``, and ``1 - log(w) / 10000`` keeps four digits of log w in float32 and none in half
    precision.
    """

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None, temb: Tensor | None = None, token_bias: Tensor | None = None,
        kept: Kept | None = None,
    ) -> Tensor:  # fmt: skip
        """Attention in the form that diffusers calls.

        Args:
            attn: the layer.
            hidden_states: queries, `(B, N, D)`.
            encoder_hidden_states: the condition's tokens `(B, L, D)`; None is self-attention, which has no bias.
            attention_mask: `(B, 1, L)`, added to the logits.
            temb: for layers outside transformer blocks.
            token_bias: `(B, L)`, added to the logits of the condition's tokens.
            kept: keys and values of the condition, see `read_condition`; None: they are read.

        Returns:
            `(B, N, D)`.
        """
        if hidden_states.ndim == 4:  # outside transformer blocks, where images attend to themselves
            return AttnProcessor2_0()(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        if encoder_hidden_states is None:
            key, value = self.read(attn, hidden_states)
        else:
            key, value = self.read(attn, encoder_hidden_states) if kept is None else kept[attn]
            if token_bias is not None:
                attention_mask = attention_mask + token_bias[:, None].to(attention_mask.dtype)
        mask = attn.prepare_attention_mask(attention_mask, key.shape[-2], len(hidden_states))
        attended = self.attend(attn, self.split(attn, attn.to_q(hidden_states)), key, value, mask)
        return attn.to_out[1](attn.to_out[0](attended))

    def read(self, attn: Attention, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of tokens `(B, L, D)`, in heads."""
        return self.split(attn, attn.to_k(tokens)), self.split(attn, attn.to_v(tokens))

    def split(self, attn: Attention, states: Tensor) -> Tensor:
        """States `(B, N, D)` in heads, `(B * heads, N, head_dim)`."""
        return attn.head_to_batch_dim(states)

    def attend(self, attn: Attention, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Attention of heads, their results side by side `(B, N, D)`; `mask` `(B * heads, 1, L)` joins the logits."""
        return attn.batch_to_head_dim(attn.get_attention_scores(query, key, mask) @ value)


class FusedWeightedAttention(WeightedAttention):
    """Torch's fused kernel: large latents, without a matrix of all pairs of places."""

    def split(self, attn: Attention, states: Tensor) -> Tensor:
        """States `(B, N, D)` in heads, `(B, heads, N, head_dim)`."""
        return states.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

    def attend(self, attn: Attention, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """As `WeightedAttention.attend`."""
        mask = None if mask is None else mask.unflatten(0, (-1, attn.heads))
        attended = scaled_dot_product_attention(query, key, value, mask, scale=attn.scale)
        return attended.transpose(1, 2).flatten(2).to(query.dtype)


def attention_for(latent_shape: tuple[int, int, int]) -> WeightedAttention:
    """The attention for latents `(C, h, w)`."""
    _, height, width = latent_shape
    return WeightedAttention() if height * width <= SHORT else FusedWeightedAttention()


def read_condition(denoiser: UNet2DConditionModel, tokens: Tensor) -> Kept:
    """Keys and values that `denoiser`, with a `WeightedAttention`, takes from a condition's tokens `(B, L, D)`."""
    crossing = (part for part in denoiser.modules() if isinstance(part, Attention) and part.is_cross_attention)
    return {attn: attn.processor.read(attn, tokens) for attn in crossing}
