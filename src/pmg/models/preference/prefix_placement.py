"""Where a prefix stands: which positions see it, and so what of a history can be computed ahead.

A prefix's keys are learned as they stand in the cache: no rotary position is put into them. What differs is who sees
the prefix, and where the tokens behind it stand (m pairs, a history of L tokens, n soft tokens):

- `late`: the soft tokens alone see it and it takes no positions: history at 0 … L-1, soft tokens at L … L+n-1.
  The history's keys and values depend on frozen weights alone, so they are read once and kept.
- `front` (P-Tuning v2, Liu et al. 2022; Li & Liang 2021): every position sees it and it takes the first m positions,
  as in `peft`: history at m … m+L-1, soft tokens behind. The history depends on what is trained, so it is read again
  each time, with gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pmg.models.language.context import Context
from pmg.models.language.language_model import LanguageModel

Placement = Callable[[LanguageModel, Context, Tensor, Tensor | None], Tensor]
"""Gives the last hidden states `(B, n, width)`, in the model's dtype, of soft tokens behind B histories.

Takes the frozen language model, the histories, the tokens' embeddings `(n, width)`, and the prefix `(layers, 2,
kv_heads, m, head_dim)` or None; differentiable in the last two.
"""


def late(language_model: LanguageModel, context: Context, embeds: Tensor, prefix: Tensor | None) -> Tensor:
    """A `Placement`: behind the cached history."""
    return language_model.soft_states(context, embeds, prefix)


def front(language_model: LanguageModel, context: Context, embeds: Tensor, prefix: Tensor | None) -> Tensor:
    """A `Placement`: before everything; the history is read again behind it."""
    first = 0 if prefix is None else prefix.shape[3]
    soft = embeds.expand(len(context), -1, -1)
    history = language_model.embed(context.padded_tokens())
    sequence = torch.cat([history, soft.to(history)], dim=1)
    steps, visible = _layout(context, embeds.shape[-2], first)
    return language_model.extend(context.emptied(), sequence, steps, visible, prefix)[:, -embeds.shape[-2] :]


def _layout(context: Context, count: int, first: int) -> tuple[Tensor, Tensor]:
    """Histories padded at their ends, then `count` soft tokens: positions `(B, N)` and visibility `(B, N, N)`."""
    padding = context.padding_mask()
    real = torch.cat([padding, torch.ones(len(context), count, dtype=torch.bool)], dim=1)
    steps = first + real.cumsum(1) - 1  # padding is not counted, so soft tokens follow their history's last token
    length = real.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return steps, causal & real[:, None] & real[:, :, None]


PLACEMENTS: Mapping[str, Placement] = {"late": late, "front": front}
