"""A mean of the soft tokens of a user's pictures, weighted by what a language model makes of them.

Shapes: `B` users, `H` pictures of a user, `n` soft tokens, `D` their width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

WIDTH = 64  # of queries and keys
NO_PICTURE = -4.0  # logit of the tokens for users without pictures, beside 0 for each picture at the start


class PictureMean(nn.Module):
    """Attention whose values are the pictures' own tokens, e.g. those of the generator's style encoder.

    Each soft token weighs the pictures by its state and theirs, so that a picture outside of the user's taste can be
    left out. Before training all have the same weight.

    Args:
        llm_width: width of the language model's states.
        tokens: n.
        width: D.
    """

    def __init__(self, llm_width: int, tokens: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(llm_width, elementwise_affine=False)
        self.query, self.key = nn.Linear(llm_width, WIDTH), nn.Linear(llm_width, WIDTH)
        nn.init.zeros_(self.query.weight)
        nn.init.zeros_(self.query.bias)
        self.base = nn.Parameter(torch.zeros(tokens, width))

    def forward(self, states: Tensor, pictures: Tensor, vectors: Tensor, counted: Tensor) -> Tensor:
        """Returns soft tokens of unit variance, `(B, n, D)`.

        Args:
            states: of the multimodal tokens, `(B, n, llm_width)`.
            pictures: states of the visual tokens, `(B, H, llm_width)`.
            vectors: tokens of the pictures, side by side, `(B, H, n D)`.
            counted: bool `(B, H)`: pictures that the mean is of; users without any get `base`.
        """
        queries, keys = self.query(self.norm(states)), self.key(self.norm(pictures))
        scores = queries @ keys.transpose(1, 2) * WIDTH**-0.5  # (B, n, H)
        scores = scores.masked_fill(~counted[:, None], float("-inf"))
        none = scores.new_full((*scores.shape[:2], 1), NO_PICTURE)
        weights = torch.cat([none, scores], dim=2).softmax(dim=2)
        base = self.base.expand(len(states), 1, *self.base.shape)
        values = torch.cat([base, vectors.unflatten(2, tuple(self.base.shape))], dim=1)  # (B, 1 + H, n, D)
        return layer_norm(torch.einsum("bnh,bhnd->bnd", weights, values), self.base.shape[1:])

    @torch.no_grad()
    def start(self, vectors: Tensor) -> None:
        """Sets `base` to the mean of pictures' vectors `(N, n D)`; without pictures it stays 0."""
        if len(vectors):
            self.base.copy_(vectors.mean(0).view_as(self.base))
