"""Prefilled histories: keys and values of a frozen language model, computed once for each user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import DynamicCache, DynamicLayer

LAYERS_AT_ONCE = 12  # gathered together: fewer, larger copies; a multiple of compiled layer groups of 2 and 3
WHOLE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integer types by their size in bytes."""
Pieces = Tensor | tuple[Tensor, ...]
"""Keys or values, as one tensor or as consecutive pieces."""


@dataclass(frozen=True)
class Context:
    """Keys and values of B histories of different lengths: views of where they are stored, without padding."""

    # B times `(layers, T, kv_heads, head_dim)`, T the number of tokens, positions already rotated in
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]  # as `keys`
    # B times int64 `(T,)`, the tokens of the history, for a prefix in front of it, which changes its keys
    tokens: tuple[Tensor, ...]
    # B times int64 `()`, the position of the token behind the history: T, or less where positions are those of
    # pictures' rows and columns (M-RoPE)
    ends: tuple[Tensor, ...]
    gathered: tuple[tuple[Tensor, Tensor], ...] | None = None  # by `gather` of all layers, if computed ahead

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def lengths(self) -> Tensor:
        """Number of tokens of each history, int64 `(B,)`."""
        return torch.tensor([len(row) for row in self.tokens], dtype=torch.long)

    @property
    def positions(self) -> Tensor:
        """Position of the token behind each history, int64 `(B,)`."""
        return torch.stack(self.ends)

    def select(self, indices: Sequence[int] | Tensor) -> Context:
        """Returns the chosen histories, in that order; copies nothing."""
        rows = torch.as_tensor(indices, dtype=torch.long).tolist()
        columns = (self.keys, self.values, self.tokens, self.ends)
        return Context(*(tuple(part[row] for row in rows) for part in columns))

    def prefetch(self, rows: Tensor) -> None:
        """Does nothing: the histories are in memory."""

    def without_tokens(self) -> Context:
        """Returns as many histories without tokens."""
        keys, values = (tuple(row[:, :0] for row in part) for part in (self.keys, self.values))
        return Context(keys, values, tuple(row[:0] for row in self.tokens), (torch.tensor(0),) * len(self))

    def padded_tokens(self) -> Tensor:
        """Returns int64 `(B, L)`, the tokens of all histories padded with zeros."""
        return pad_sequence(list(self.tokens), batch_first=True)

    def padding_mask(self) -> Tensor:
        """Returns bool `(B, L)`, true at tokens of the history."""
        lengths = self.lengths
        return torch.arange(int(lengths.max())) < lengths[:, None]

    def gather(self, layers: slice) -> list[tuple[Tensor, Tensor]]:
        """Returns keys and values of some layers as padded batches, `(B, kv_heads, L, head_dim)`; padding is zero."""
        return list(zip(_pad(self.keys, layers), _pad(self.values, layers), strict=True))

    def prefetched(self) -> Context:
        """Returns the same histories, with all layers gathered."""
        pieces = range(0, len(self.keys[0]), LAYERS_AT_ONCE)
        layers = chain.from_iterable(self.gather(slice(first, first + LAYERS_AT_ONCE)) for first in pieces)
        return replace(self, gathered=tuple(layers))

    def to_tensors(self) -> dict[str, Tensor]:
        """Returns named tensors for the cache: those of a history are consecutive, see `tensor_names`."""
        rows = zip(self.keys, self.values, self.tokens, self.ends, strict=True)
        return {
            name: part for row, parts in enumerate(rows) for name, part in zip(tensor_names(row), parts, strict=True)
        }

    def to_cache(self, device: torch.device) -> DynamicCache:
        """Returns a transformers cache of the histories, padded at their ends; it grows with further tokens."""
        cache, past = DynamicCache(), PastKeyValues(self, device, self.keys[0].dtype)
        for number in range(len(self.keys[0])):
            cache.update(*past.load_layer(number), number)
        return cache

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], rows: Sequence[int]) -> Context:
        """Returns the histories of `rows` from the tensors of `to_tensors`, or from those of these rows alone."""
        return cls(*zip(*([tensors[name] for name in tensor_names(row)] for row in rows), strict=True))

    @classmethod
    def concatenate(cls, parts: Sequence[Context]) -> Context:
        """Returns one context of the histories of several; copies nothing."""
        columns = ([getattr(part, name) for part in parts] for name in ("keys", "values", "tokens", "ends"))
        return cls(*(tuple(chain.from_iterable(column)) for column in columns))


@dataclass(frozen=True)
class HistoryInputs:
    """What a decoder takes of B padded histories."""

    seen: Tensor  # bool `(B, L, L)`: which token attends to which
    arguments: Mapping[str, Any]  # tokens or embeddings, and what else the decoder needs, by its own names
    ends: Tensor  # int64 `(B,)`, see `Context`


def tensor_names(row: int) -> tuple[str, str, str, str]:
    """Returns the names of a history's tensors in the cache: keys, values, tokens, end."""
    return f"{row}.keys", f"{row}.values", f"{row}.tokens", f"{row}.end"


def _pad(rows: Sequence[Tensor], layers: slice) -> Tensor:
    """Returns keys or values of some layers, `(layers, B, kv_heads, L, head_dim)`.

    numpy copies them without threads: a second pool of torch threads, beside a step's own, slows all small operations.
    """
    some, longest = rows[0][layers], max(row.shape[1] for row in rows)
    whole = some.new_empty(len(some), len(rows), some.shape[2], longest, some.shape[3])
    target = _bits(whole)
    for place, row in enumerate(rows):
        target[:, place, :, : row.shape[1]] = _bits(row[layers]).transpose(0, 2, 1, 3)
        target[:, place, :, row.shape[1] :] = 0
    return whole


def _bits(tensor: Tensor) -> np.ndarray:
    """Returns the same memory as integers: numpy has no bfloat16."""
    return tensor.view(WHOLE[tensor.dtype.itemsize]).numpy()


class PastKeyValues:
    """Keys and values of a padded batch, gathered a few layers at a time and moved to a device."""

    def __init__(self, context: Context, device: torch.device, dtype: torch.dtype) -> None:
        self.context, self.device, self.dtype = context, device, dtype
        self.ready = dict(enumerate(context.gathered or ()))

    def load_layer(self, layer: int) -> tuple[Tensor, Tensor]:
        """Returns keys and values of a layer, `(B, kv_heads, L, head_dim)` each; padding is zero."""
        if layer not in self.ready:
            self.ready.update(enumerate(self.context.gather(slice(layer, layer + LAYERS_AT_ONCE)), start=layer))
        keys, values = self.ready.pop(layer)
        return keys.to(self.device, self.dtype), values.to(self.device, self.dtype)


class ContextLayer(DynamicLayer):
    """One layer of a cache whose past is a padded batch of a `Context` and, behind it, a prefix.

    The prefix, keys and values shared by all rows, is `(2, kv_heads, m, head_dim)` or None. Where the attention takes
    past and new keys `in_pieces`, two of them, nothing is copied.
    """

    def __init__(self, past: PastKeyValues, layer: int, prefix: Tensor | None, in_pieces: bool) -> None:
        super().__init__()
        self.past, self.layer, self.prefix, self.in_pieces = past, layer, prefix, in_pieces
        self.loaded: tuple[Tensor, Tensor] | None = None

    def load(self) -> None:
        """Loads the past ahead of the forward pass: compiled code can't gather it."""
        self.loaded = self.past.load_layer(self.layer)

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Pieces, Pieces]:
        """Returns keys and values `(B, kv_heads, L + m + N, head_dim)`; stores nothing of the new tokens."""
        keys, values = self.past.load_layer(self.layer) if self.loaded is None else self.loaded
        return self._join(0, keys, key_states), self._join(1, values, value_states)

    def _join(self, kind: int, past: Tensor, new: Tensor) -> Pieces:
        if self.prefix is not None:
            new = torch.cat([self.prefix[kind].expand(len(new), -1, -1, -1), new], dim=2)
        return (past, new) if self.in_pieces else torch.cat([past, new], dim=2)
