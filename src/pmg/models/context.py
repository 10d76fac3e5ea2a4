"""A prefilled history: keys and values of a frozen language model, computed once per user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import DynamicCache, DynamicLayer


@dataclass(frozen=True)
class Context:
    """Keys and values of B histories, each as long as it is: views of wherever they were stored, without padding.

    Attributes:
        keys: B times `(layers, T, kv_heads, head_dim)`, T the number of tokens, positions already rotated in.
        values: as `keys`.
        tokens: B times int64 `(T,)`, what was read: a prefix that stands before the history needs it read again.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    tokens: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def lengths(self) -> Tensor:
        """Number of tokens of each history, int64 `(B,)`."""
        return torch.tensor([len(row) for row in self.tokens], dtype=torch.long)

    def select(self, indices: Sequence[int] | Tensor) -> Context:
        """Returns the chosen histories, in that order; copies nothing."""
        rows = torch.as_tensor(indices, dtype=torch.long).tolist()
        return Context(*(tuple(part[row] for row in rows) for part in (self.keys, self.values, self.tokens)))

    def emptied(self) -> Context:
        """Returns as many histories of no tokens."""
        keys, values = (tuple(row[:, :0] for row in part) for part in (self.keys, self.values))
        return Context(keys, values, tuple(row[:0] for row in self.tokens))

    def padded_tokens(self) -> Tensor:
        """Returns int64 `(B, L)`, the tokens of all histories with zeros behind them."""
        return pad_sequence(self.tokens, batch_first=True)

    def padding_mask(self) -> Tensor:
        """Returns bool `(B, L)`, true where there is a token of the history."""
        lengths = self.lengths
        return torch.arange(int(lengths.max())) < lengths[:, None]

    def layer(self, number: int) -> tuple[Tensor, Tensor]:
        """Returns keys and values of one layer, `(B, L, kv_heads, head_dim)`, with zeros behind each history."""
        keys, values = ([row[number] for row in part] for part in (self.keys, self.values))
        return pad_sequence(keys, batch_first=True), pad_sequence(values, batch_first=True)

    def to_tensors(self) -> dict[str, Tensor]:
        """Returns named tensors for the cache: the histories one after the other."""
        keys, values, tokens = torch.cat(self.keys, 1), torch.cat(self.values, 1), torch.cat(self.tokens)
        return {"keys": keys, "values": values, "tokens": tokens, "lengths": self.lengths}

    def to_cache(self, device: torch.device) -> DynamicCache:
        """Returns a cache that holds the histories, padded at their ends, and grows as more is read."""
        cache = DynamicCache()
        for number in range(len(self.keys[0])):
            cache.update(*(part.transpose(1, 2).to(device) for part in self.layer(number)), number)
        return cache

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Context:
        """Rebuilds what `to_tensors` gave, as views of it."""
        lengths = tensors["lengths"].tolist()
        keys, values = (tensors[name].split(lengths, dim=1) for name in ("keys", "values"))
        return cls(keys, values, tensors["tokens"].split(lengths))

    @classmethod
    def concatenate(cls, parts: Sequence[Context]) -> Context:
        """Joins contexts that were built in chunks into one; copies nothing."""
        columns = ([getattr(part, name) for part in parts] for name in ("keys", "values", "tokens"))
        return cls(*(tuple(chain.from_iterable(column)) for column in columns))


class ContextLayer(DynamicLayer):
    """One layer of a cache whose past is a padded batch of a `Context` and, behind it, a prefix.

    The past is gathered when the layer runs and joined to the new tokens in one copy.

    Args:
        context: the histories, B of them.
        layer: which layer this is.
        prefix: `(2, kv_heads, m, head_dim)`, keys and values shared by all rows, or None.
    """

    def __init__(self, context: Context, layer: int, prefix: Tensor | None) -> None:
        super().__init__()
        self.context, self.layer, self.prefix = context, layer, prefix

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Returns keys and values `(B, kv_heads, L + m + N, head_dim)`; keeps nothing of the new tokens."""
        keys, values = self.context.layer(self.layer)
        return self._join(0, keys, key_states), self._join(1, values, value_states)

    def _join(self, kind: int, past: Tensor, new: Tensor) -> Tensor:
        parts = [past.transpose(1, 2).to(new.device, new.dtype)]
        if self.prefix is not None:
            parts.append(self.prefix[kind].to(new).expand(len(new), -1, -1, -1))
        return torch.cat([*parts, new], dim=2)
