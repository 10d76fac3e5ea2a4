"""Cross-attention with a bias for each token of the condition, and with cached keys and values."""

from __future__ import annotations

from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

SMALL = 256  # latent positions up to which plain matrix products beat the fused kernel (2.35x at 8 x 8, on a CPU)
CrossAttentionCache = dict[Attention, tuple[Tensor, Tensor]]
"""Keys and values of one condition in heads, by layer: the same in each sampling step."""


class WeightedAttention:
    """Attention that adds a bias to the logits of each key. Plain matrix products: fast on small latents.

    The bias isn't passed through the UNet's ``encoder_attention_mask``: diffusers converts that, whatever its type,
    to ``(1 - mask) * -10000``, and ``1 - log(w) / 10000`` keeps four digits of log w in float32 and none in half
    precision.
    """

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None, temb: Tensor | None = None, *, token_bias: Tensor | None = None,
        cache: CrossAttentionCache | None = None,
    ) -> Tensor:  # fmt: skip
        """Returns `(B, N, D)` of queries `(B, N, D)`; the signature is that of a diffusers attention processor.

        The condition's tokens are `(B, L, D)`; None is self-attention, which has no bias. `attention_mask`
        `(B, 1, L)` and `token_bias` `(B, L)` are added to their logits. `cache` has the condition's keys and values,
        see `precompute_keys_values`; None: they are computed. `temb` is for layers outside transformer blocks.
        """
        if hidden_states.ndim == 4:  # outside transformer blocks: self-attention of feature maps
            return AttnProcessor2_0()(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        if encoder_hidden_states is None:
            key, value = self.keys_values(attn, hidden_states)
        else:
            key, value = self.keys_values(attn, encoder_hidden_states) if cache is None else cache[attn]
            if token_bias is not None:
                bias = token_bias[:, None].to(hidden_states.dtype)
                attention_mask = bias if attention_mask is None else attention_mask + bias
        mask = attn.prepare_attention_mask(attention_mask, key.shape[-2], len(hidden_states))
        attended = self.attend(attn, self.split(attn, attn.to_q(hidden_states)), key, value, mask)
        return attn.to_out[1](attn.to_out[0](attended))

    def keys_values(self, attn: Attention, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Returns keys and values, in heads, of tokens `(B, L, D)`."""
        return self.split(attn, attn.to_k(tokens)), self.split(attn, attn.to_v(tokens))

    def split(self, attn: Attention, states: Tensor) -> Tensor:
        """Returns states `(B, N, D)` in heads, `(B * heads, N, head_dim)`."""
        return attn.head_to_batch_dim(states)

    def attend(self, attn: Attention, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Returns the heads' results concatenated, `(B, N, D)`; `mask` `(B * heads, 1, L)` is added to the logits."""
        return attn.batch_to_head_dim(attn.get_attention_scores(query, key, mask) @ value)


class FusedWeightedAttention(WeightedAttention):
    """Torch's fused kernel: for large latents, as it never holds a matrix of all pairs of positions."""

    def split(self, attn: Attention, states: Tensor) -> Tensor:
        """Returns states `(B, N, D)` in heads, `(B, heads, N, head_dim)`."""
        return states.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

    def attend(self, attn: Attention, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Returns what `WeightedAttention.attend` returns."""
        mask = None if mask is None else mask.unflatten(0, (-1, attn.heads))
        attended = scaled_dot_product_attention(query, key, value, mask, scale=attn.scale)
        return attended.transpose(1, 2).flatten(2).to(query.dtype)


def attention_for(positions: int) -> WeightedAttention:
    """Returns the faster attention for so many positions of latents."""
    return WeightedAttention() if positions <= SMALL else FusedWeightedAttention()


def precompute_keys_values(model: nn.Module, tokens: Tensor) -> CrossAttentionCache:
    """Returns keys and values of the tokens `(B, L, D)` for each cross-attention layer of a denoiser."""
    layers = (layer for layer in model.modules() if isinstance(layer, Attention) and layer.is_cross_attention)
    return {attn: attn.processor.keys_values(attn, tokens) for attn in layers}
