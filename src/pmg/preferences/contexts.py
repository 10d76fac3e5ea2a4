"""Contexts of many users: looked up where they are kept, or read again whenever they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from pmg.cache import TensorLoader
from pmg.models.language.context import Context, tensor_names
from pmg.models.language.language_model import LanguageModel

AHEAD = 2  # batches that are expected at a time


class KeptContexts:
    """Histories in entries of a cache: those that are asked for are looked up, so memory doesn't grow with users.

    Those that are expected are looked up and gathered in a thread, while something else is computed.

    Args:
        entries: for each, what gives its tensors (of `Context.to_tensors`), and how many histories it holds.
    """

    def __init__(self, entries: Sequence[tuple[TensorLoader, int]]) -> None:
        self.entries = list(entries)
        self.places = [(entry, row) for entry, (_, size) in enumerate(entries) for row in range(size)]
        self.thread = ThreadPoolExecutor(1, "contexts")
        self.expected: dict[tuple[int, ...], Future[Context]] = {}

    def __len__(self) -> int:
        return len(self.places)

    def expect(self, rows: Tensor) -> None:
        """Says which rows `(B,)` will be selected soon; of what is never selected the last two are held."""
        wanted = tuple(rows.tolist())
        while len(self.expected) >= AHEAD:
            del self.expected[next(iter(self.expected))]
        self.expected[wanted] = self.thread.submit(lambda: self._look_up(wanted).prefetched())

    def select(self, rows: Sequence[int] | Tensor) -> Context:
        """Returns the chosen histories, in that order."""
        wanted = tuple(torch.as_tensor(rows).tolist())
        coming = self.expected.pop(wanted, None)
        return coming.result() if coming else self._look_up(wanted)

    def _look_up(self, rows: Sequence[int]) -> Context:
        places = [self.places[row] for row in rows]
        found: dict[int, Mapping[str, Tensor]] = {}
        for wanted in {entry for entry, _ in places}:
            here = {name for entry, row in places if entry == wanted for name in tensor_names(row)}
            found[wanted] = self.entries[wanted][0](here)
        return Context.concatenate([Context.from_tensors(found[entry], [row]) for entry, row in places])

    @classmethod
    def concatenate(cls, parts: Sequence[KeptContexts]) -> KeptContexts:
        """The histories of all parts, one after the other."""
        return cls([entry for part in parts for entry in part.entries])


class UnkeptContexts:
    """Histories that are read again whenever they are asked for: no memory holds the contexts of very many users.

    A context of a large model takes longer to fetch than to compute (docs/scaling.md has the numbers).

    Args:
        language_model: reads them.
        texts: the histories.
    """

    def __init__(self, language_model: LanguageModel, texts: Sequence[str]) -> None:
        self.language_model, self.texts = language_model, list(texts)

    def __len__(self) -> int:
        return len(self.texts)

    def expect(self, rows: Tensor) -> None:
        """Nothing: reading takes the processors that the step before still needs."""

    def select(self, rows: Sequence[int] | Tensor) -> Context:
        """Reads the chosen histories, in that order; in the model's own precision, as those that are kept."""
        chosen = [self.texts[row] for row in torch.as_tensor(rows).tolist()]
        with torch.autocast(self.language_model.model.device.type, enabled=False):
            return self.language_model.prefill(chosen)

    @classmethod
    def concatenate(cls, parts: Sequence[UnkeptContexts]) -> UnkeptContexts:
        """The histories of all parts, one after the other."""
        return cls(parts[0].language_model, [text for part in parts for text in part.texts])


Contexts = KeptContexts | UnkeptContexts
"""The contexts of all users of a run; `select` gives those of a batch."""
