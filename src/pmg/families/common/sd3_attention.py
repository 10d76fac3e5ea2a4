"""Joint attention of Stable Diffusion 3 with a bias for each token of the condition.

The published attention has no mask: all text tokens count. Here hidden tokens get a bias of minus infinity as keys, in
all layers, so that neither the image nor the other text tokens depend on them. What hidden tokens compute themselves
is never read.
"""

from __future__ import annotations

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention


class BiasedJointAttention:
    """Attention of image and text tokens to each other, with a bias on the logits of text tokens as keys."""

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None, token_bias: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:  # fmt: skip
        """Returns image tokens `(B, N, D)`, and text tokens `(B, L, D)` where there are some.

        Args:
            attn: the layer.
            hidden_states: image tokens, `(B, N, D)`.
            encoder_hidden_states: text tokens, `(B, L, D)`; None is self-attention of the image.
            attention_mask: unused; part of diffusers' signature.
            token_bias: `(B, L)`, added to the logits of the text tokens; None adds nothing.
        """
        places = hidden_states.shape[1]
        image = _heads(attn, hidden_states, (attn.to_q, attn.to_k, attn.to_v), (attn.norm_q, attn.norm_k))
        if encoder_hidden_states is None:
            query, key, value = image
            return _project(attn, _merge(scaled_dot_product_attention(query, key, value)))
        text = _heads(
            attn, encoder_hidden_states, (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj),
            (attn.norm_added_q, attn.norm_added_k),
        )  # fmt: skip
        query, key, value = (torch.cat(pair, dim=2) for pair in zip(image, text, strict=True))
        bias = None if token_bias is None else pad(token_bias, (places, 0))[:, None, None].to(query.dtype)
        merged = _merge(scaled_dot_product_attention(query, key, value, bias))
        image_states, text_states = merged[:, :places], merged[:, places:]
        last = attn.context_pre_only  # the last layer drops the text
        return _project(attn, image_states), text_states if last else attn.to_add_out(text_states)


def _heads(
    attn: Attention, states: Tensor, projections: tuple[nn.Module, ...], norms: tuple[nn.Module | None, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns query, key and value in heads, `(B, heads, N, head_dim)` each; query and key normalised."""
    query, key, value = (project(states).unflatten(-1, (attn.heads, -1)).transpose(1, 2) for project in projections)
    norm_query, norm_key = norms
    return norm_query(query) if norm_query else query, norm_key(key) if norm_key else key, value


def _merge(heads: Tensor) -> Tensor:
    """Returns heads `(B, heads, N, head_dim)` concatenated, `(B, N, D)`."""
    return heads.transpose(1, 2).flatten(2)


def _project(attn: Attention, states: Tensor) -> Tensor:
    """Returns the output projection, with dropout."""
    return attn.to_out[1](attn.to_out[0](states))
