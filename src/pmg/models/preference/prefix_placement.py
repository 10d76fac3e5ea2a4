"""Placements of a prefix: which tokens attend to it, and whether histories can be cached.

A prefix's keys are learned as they are in the cache: not rotated. The placements differ in which tokens attend
to the prefix, and in the positions of the tokens behind it (m pairs, a history of L tokens, n multimodal tokens):

- `late`: only the multimodal tokens attend to it, and it takes no positions: history at 0 … L-1, multimodal tokens at
  L … L+n-1.
  The history's keys and values depend on frozen weights alone, so they are computed once and cached.
- `front` (P-Tuning v2, Liu et al. 2022; Li & Liang 2021): every token attends to it; it takes the first m positions,
  as in `peft`: history at m … m+L-1, multimodal tokens behind. The history depends on trained weights, so it is
  computed in each step, with gradients.

With a chat template the tokens that end the user's turn are between history and multimodal tokens, placed as these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from pmg.domain import PmgError
from pmg.models.language.context import Context
from pmg.models.language.language_model import LanguageModel

Placement = Callable[[LanguageModel, Context, Tensor, Tensor | None], Tensor]
"""Returns the last hidden states `(B, n, width)`, in the model's dtype, of multimodal tokens behind B histories.

Takes the frozen language model, the histories, the tokens' embeddings `(n, width)`, and the prefix `(layers, 2,
kv_heads, m, head_dim)` or None; differentiable in the last two.
"""


class Prefix(nn.Module):
    """m key/value pairs for every layer of a language model; m is `length`.

    `hidden` is the width of a 2-layer tanh network that computes the pairs from m learned vectors (easier to train
    when m is large); None learns the pairs directly. `std` is the standard deviation of the initial pairs, small
    compared with a model's own keys and values.
    """

    def __init__(
        self, layers: int, kv_heads: int, head_dim: int, length: int, hidden: int | None = None, std: float = 0.02
    ) -> None:
        super().__init__()
        self.layers, self.kv_heads, self.head_dim, self.length = layers, kv_heads, head_dim, length
        size = 2 * layers * kv_heads * head_dim
        self.pairs = nn.Parameter(torch.randn(length, size if hidden is None else hidden))
        self.network: nn.Module
        if hidden is None:
            self.network = nn.Identity()
            nn.init.normal_(self.pairs, std=std)
        else:
            first, last = nn.Linear(hidden, hidden), nn.Linear(hidden, size)
            self.network = nn.Sequential(first, nn.Tanh(), last)
            nn.init.normal_(last.weight, std=std * hidden**-0.5)

    def forward(self) -> Tensor:
        """Returns `(layers, 2, kv_heads, length, head_dim)`; index 0 of axis 1 are keys, 1 values."""
        pairs = self.network(self.pairs).view(self.length, self.layers, 2, self.kv_heads, self.head_dim)
        return pairs.permute(1, 2, 3, 0, 4)


def front(language_model: LanguageModel, context: Context, embeds: Tensor, prefix: Tensor | None) -> Tensor:
    """A `Placement`: the prefix precedes the history, which is computed again."""
    if language_model.reads_pictures:
        raise PmgError(
            "preference_encoder.placement=front reads histories again in each step, and a language model that "
            "sees reads each picture once. Use placement=late"
        )
    first = 0 if prefix is None else prefix.shape[3]
    soft = language_model.end_turn(embeds.expand(len(context), -1, -1))
    history = language_model.embed(context.padded_tokens())
    sequence = torch.cat([history, soft.to(history)], dim=1)
    new = torch.ones(soft.shape[:2], dtype=torch.bool)
    steps, visible = causal_layout(torch.cat([context.padding_mask(), new], dim=1))
    layers = language_model.read_layers
    states = language_model.extend(context.without_tokens(), sequence, first + steps, visible, prefix, layers)
    return states[:, -embeds.shape[-2] :]


def causal_layout(real: Tensor) -> tuple[Tensor, Tensor]:
    """Returns positions `(B, N)` and causal visibility `(B, N, N)` of tokens; `real` `(B, N)` is false at padding.

    Padding takes no position, attends to nothing, and no token attends to it.
    """
    causal = torch.ones(real.shape[1], real.shape[1], dtype=torch.bool).tril()
    return (real.cumsum(1) - 1).clamp(min=0), causal & real[:, None] & real[:, :, None]


PLACEMENTS: Mapping[str, Placement] = {"late": LanguageModel.multimodal_states, "front": front}
