"""Trainable keys and values in the cache of a frozen transformer (prefix tuning, Li & Liang 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Prefix(nn.Module):
    """m key/value pairs for every layer.

    Args:
        layers: layers of the language model.
        kv_heads: its key/value heads.
        head_dim: width of one head.
        length: m, pairs a layer.
        hidden: width of a 2-layer tanh network that computes the pairs from m learned vectors (easier to train
            when m is large); None learns the pairs directly.
        std: standard deviation of the initial pairs, small compared with a model's own keys and values.
    """

    def __init__(
        self,
        layers: int,
        kv_heads: int,
        head_dim: int,
        length: int,
        hidden: int | None = None,
        std: float = 0.02,
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
