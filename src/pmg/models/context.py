"""A prefilled history: keys and values of a frozen language model, computed once per user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import DynamicCache, DynamicLayer

LAYERS_AT_ONCE = 4  # gathered together: larger pieces are asked of the system and given back each time


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

    def to_tensors(self) -> dict[str, Tensor]:
        """Returns named tensors for the cache: those of a history lie together, see `names`."""
        columns = zip(self.keys, self.values, self.tokens, strict=True)
        return {name: part for row, parts in enumerate(columns) for name, part in zip(names(row), parts, strict=True)}

    def to_cache(self, device: torch.device) -> DynamicCache:
        """Returns a cache that holds the histories, padded at their ends, and grows as more is read."""
        cache, rooms = DynamicCache(), Rooms(self, 0)
        for number in range(len(self.keys[0])):
            cache.update(*(part.to(device) for part in rooms.take(number)), number)
        return cache

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], rows: Sequence[int]) -> Context:
        """Rebuilds the histories of `rows` from what `to_tensors` gave, or from theirs alone."""
        return cls(*zip(*([tensors[name] for name in names(row)] for row in rows), strict=True))

    @classmethod
    def concatenate(cls, parts: Sequence[Context]) -> Context:
        """Joins contexts that were built in chunks into one; copies nothing."""
        columns = ([getattr(part, name) for part in parts] for name in ("keys", "values", "tokens"))
        return cls(*(tuple(chain.from_iterable(column)) for column in columns))


def names(row: int) -> tuple[str, str, str]:
    """Names of the tensors of a history in the cache: keys, values, tokens."""
    return f"{row}.keys", f"{row}.values", f"{row}.tokens"


class Rooms:
    """Keys and values of a padded batch with room behind them for new tokens, gathered a few layers at a time.

    Args:
        context: the histories, B of them.
        room: places behind the longest history, whose content is undefined.
    """

    def __init__(self, context: Context, room: int) -> None:
        self.context, self.room = context, room
        self.ready: dict[int, tuple[Tensor, Tensor]] = {}

    def take(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, `(B, kv_heads, L + room, head_dim)` each; zeros from a history to the room."""
        if layer not in self.ready:
            layers = slice(layer, layer + LAYERS_AT_ONCE)
            pairs = zip(
                *(self._gather(part, layers) for part in (self.context.keys, self.context.values)), strict=True
            )
            self.ready.update(enumerate(pairs, start=layer))
        return self.ready.pop(layer)

    def _gather(self, rows: Sequence[Tensor], layers: slice) -> list[Tensor]:
        """One tensor a layer, with a version counter of its own: what is written in one concerns no other."""
        some, longest = rows[0][layers], max(row.shape[1] for row in rows)
        shape = (len(some), len(rows), some.shape[2], longest + self.room, some.shape[3])
        whole = some.new_empty(shape)
        for place, row in enumerate(rows):
            whole[:, place, :, : row.shape[1]] = row[layers].transpose(1, 2)
            whole[:, place, :, row.shape[1] : longest] = 0
        return [layer.data for layer in whole]


class Behind(torch.autograd.Function):
    """Writes new tokens' keys or values into the room behind the past: nothing is copied but them."""

    @staticmethod
    def forward(ctx: Any, room: Tensor, new: Tensor) -> Tensor:
        """Returns `room` `(B, kv_heads, L + N, head_dim)` with `new` `(B, kv_heads, N, head_dim)` at its end."""
        ctx.count = new.shape[2]
        room[:, :, room.shape[2] - ctx.count :] = new
        return room.view(room.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        """The gradient of what is new; the past has none."""
        return None, gradient[:, :, gradient.shape[2] - ctx.count :]


class ContextLayer(DynamicLayer):
    """One layer of a cache whose past is a padded batch of a `Context` and, behind it, a prefix.

    Args:
        rooms: of the histories, B of them, with room for the prefix and all new tokens.
        layer: which layer this is.
        prefix: `(2, kv_heads, m, head_dim)`, keys and values shared by all rows, or None.
    """

    def __init__(self, rooms: Rooms, layer: int, prefix: Tensor | None) -> None:
        super().__init__()
        self.rooms, self.layer, self.prefix = rooms, layer, prefix

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Returns keys and values `(B, kv_heads, L + m + N, head_dim)`; keeps nothing of the new tokens."""
        keys, values = self.rooms.take(self.layer)
        return self._join(0, keys, key_states), self._join(1, values, value_states)

    def _join(self, kind: int, room: Tensor, new: Tensor) -> Tensor:
        if self.prefix is not None:
            new = torch.cat([self.prefix[kind].to(new).expand(len(new), -1, -1, -1), new], dim=2)
        return Behind.apply(room.to(new.device, new.dtype), new)
