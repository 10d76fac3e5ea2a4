"""A prefilled history: keys and values of a frozen language model, computed once per user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer


@dataclass(frozen=True)
class Context:
    """Keys and values of B histories, without padding: all tokens stand on one axis.

    Attributes:
        keys: `(layers, T, kv_heads, head_dim)`, T the number of stored tokens, positions already rotated in.
        values: as `keys`.
        tokens: int64 `(T,)`, what was read: a prefix that stands before the history needs it read again.
        starts: int64 `(B,)`, where each history begins on the token axis.
        lengths: int64 `(B,)`, its number of tokens.
    """

    keys: Tensor
    values: Tensor
    tokens: Tensor
    starts: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def select(self, indices: Sequence[int] | Tensor) -> Context:
        """Returns the chosen histories, in that order; shares the stored tokens, copies nothing large."""
        indices = torch.as_tensor(indices, dtype=torch.long)
        return replace(self, starts=self.starts[indices], lengths=self.lengths[indices])

    def emptied(self) -> Context:
        """Returns as many histories of no tokens."""
        return replace(self, lengths=torch.zeros_like(self.lengths))

    def token_indices(self) -> Tensor:
        """Returns int64 `(B, L)` into the token axis; places past a history's end repeat its last token."""
        offsets = torch.arange(int(self.lengths.max()))
        return self.starts[:, None] + torch.minimum(offsets, self.lengths[:, None] - 1)

    def padding_mask(self) -> Tensor:
        """Returns bool `(B, L)`, true where `token_indices` names a token of the history."""
        return torch.arange(int(self.lengths.max())) < self.lengths[:, None]

    def to_tensors(self) -> dict[str, Tensor]:
        """Returns named tensors for the cache: these histories alone, one after the other."""
        rows = self.token_indices()[self.padding_mask()]
        return {
            "keys": self.keys.index_select(1, rows),
            "values": self.values.index_select(1, rows),
            "tokens": self.tokens[rows],
            "lengths": self.lengths.clone(),
        }

    def to_cache(self, device: torch.device) -> DynamicCache:
        """Returns a cache that holds the histories, padded at their ends, and grows as more is read."""
        rows, cache = self.token_indices(), DynamicCache()
        for layer, pair in enumerate(zip(self.keys, self.values, strict=True)):
            past = (part.index_select(0, rows.flatten()).unflatten(0, rows.shape).transpose(1, 2) for part in pair)
            cache.update(*(part.to(device) for part in past), layer)
        return cache

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Context:
        """Rebuilds what `to_tensors` gave."""
        lengths = tensors["lengths"]
        return cls(tensors["keys"], tensors["values"], tensors["tokens"], lengths.cumsum(0) - lengths, lengths)

    @classmethod
    def concatenate(cls, parts: Sequence[Context]) -> Context:
        """Joins contexts that were built in chunks into one."""
        shifts = torch.tensor([0] + [part.keys.shape[1] for part in parts[:-1]]).cumsum(0)
        return cls(
            torch.cat([part.keys for part in parts], dim=1),
            torch.cat([part.values for part in parts], dim=1),
            torch.cat([part.tokens for part in parts]),
            torch.cat([part.starts + shift for part, shift in zip(parts, shifts, strict=True)]),
            torch.cat([part.lengths for part in parts]),
        )


class ContextLayer(DynamicLayer):
    """One layer of a cache whose past is a padded batch of a `Context` and, behind it, a prefix.

    The past is gathered when the layer runs and joined to the new tokens in one copy.

    Args:
        context: the histories, B of them.
        layer: which layer this is.
        rows: `context.token_indices()`, `(B, L)`.
        prefix: `(2, kv_heads, m, head_dim)`, keys and values shared by all rows, or None.
    """

    def __init__(self, context: Context, layer: int, rows: Tensor, prefix: Tensor | None) -> None:
        super().__init__()
        self.past = context.keys[layer], context.values[layer]
        self.rows = rows
        self.prefix = prefix

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Returns keys and values `(B, kv_heads, L + m + N, head_dim)`; keeps nothing of the new tokens."""
        return self._join(0, key_states), self._join(1, value_states)

    def _join(self, kind: int, new: Tensor) -> Tensor:
        past = self.past[kind].index_select(0, self.rows.flatten()).unflatten(0, self.rows.shape)
        parts = [past.transpose(1, 2).to(new.device, new.dtype)]
        if self.prefix is not None:
            parts.append(self.prefix[kind].to(new).expand(len(new), -1, -1, -1))
        return torch.cat([*parts, new], dim=2)
