"""Contexts of many users, loaded from cache entries or recomputed for each batch, and states of their histories."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from pmg.cache import Cache, TensorLoader
from pmg.domain import Item
from pmg.models.language.context import Context, tensor_names
from pmg.models.language.context_decoder import Pictures
from pmg.models.language.language_model import LanguageModel
from pmg.models.language.picture_marks import find_pictures
from pmg.preferences.captioning import Pixels
from pmg.progress import track

PictureLookup = Callable[[Sequence[str]], Sequence[Pictures]]
"""Returns of each text the features of its pictures, in their order."""
ENTRY = 50  # profiles in one entry of the cache (of trainings, too): little is lost when a run is stopped
AHEAD = 2  # batches that are prefetched at a time
READ_AT_ONCE = 32  # pictures whose pixels are in memory


def no_pictures(texts: Sequence[str]) -> list[Pictures]:
    """A `PictureLookup` of texts without pictures."""
    return [()] * len(texts)


class CachedContexts:
    """Contexts in cache entries, which are loaded for each batch, so that memory doesn't grow with users.

    Each entry is the loader of its tensors (of `Context.to_tensors`) and its number of histories.
    """

    def __init__(self, entries: Sequence[tuple[TensorLoader, int]]) -> None:
        self.entries = list(entries)
        self.places = [(entry, row) for entry, (_, size) in enumerate(entries) for row in range(size)]
        self.thread = ThreadPoolExecutor(1, "contexts")
        self.pending: dict[tuple[int, ...], Future[Context]] = {}

    def __len__(self) -> int:
        return len(self.places)

    def prefetch(self, rows: Tensor) -> None:
        """Prefetches rows `(B,)` in a thread; at most `AHEAD` batches are held until they are selected."""
        wanted = tuple(rows.tolist())
        while len(self.pending) >= AHEAD:
            del self.pending[next(iter(self.pending))]
        self.pending[wanted] = self.thread.submit(lambda: self._look_up(wanted).prefetched())

    def select(self, rows: Sequence[int] | Tensor) -> Context:
        """Returns the contexts of rows, in that order."""
        wanted = tuple(torch.as_tensor(rows).tolist())
        coming = self.pending.pop(wanted, None)
        return coming.result() if coming else self._look_up(wanted)

    def _look_up(self, rows: Sequence[int]) -> Context:
        places = [self.places[row] for row in rows]
        found: dict[int, Mapping[str, Tensor]] = {}
        for wanted in {entry for entry, _ in places}:
            here = {name for entry, row in places if entry == wanted for name in tensor_names(row)}
            found[wanted] = self.entries[wanted][0](here)
        return Context.concatenate([Context.from_tensors(found[entry], [row]) for entry, row in places])

    @classmethod
    def concatenate(cls, parts: Sequence[CachedContexts]) -> CachedContexts:
        """Returns the histories of all parts in one object."""
        return cls([entry for part in parts for entry in part.entries])


class LazyContexts:
    """Contexts that are recomputed for each batch, for more users than memory or disks have room for.

    A context of a large model takes longer to load than to compute (docs/scaling.md has the numbers).
    """

    def __init__(
        self, language_model: LanguageModel, texts: Sequence[str], pictures: PictureLookup = no_pictures
    ) -> None:
        self.language_model, self.texts, self.pictures = language_model, list(texts), pictures

    def __len__(self) -> int:
        return len(self.texts)

    def prefetch(self, rows: Tensor) -> None:
        """Does nothing: computing a context would compete with the step before."""

    def select(self, rows: Sequence[int] | Tensor) -> Context:
        """Computes the contexts of rows, in that order, in the model's own precision, as for cached ones."""
        chosen = [self.texts[row] for row in torch.as_tensor(rows).tolist()]
        with torch.autocast(self.language_model.model.device.type, enabled=False):
            return self.language_model.prefill(chosen, pictures=self.pictures(chosen))

    @classmethod
    def concatenate(cls, parts: Sequence[LazyContexts]) -> LazyContexts:
        """Returns the histories of all parts in one object."""
        texts = [text for part in parts for text in part.texts]
        return cls(parts[0].language_model, texts, parts[0].pictures)


Contexts = CachedContexts | LazyContexts
"""The contexts of all users of a run; `select` returns those of a batch."""


@dataclass(frozen=True)
class PictureFeatures:
    """Looks up the pictures that texts mark, see `pmg.preferences.captioning.PictureCaptioner`."""

    language_model: LanguageModel  # encodes pictures
    cache: Cache  # keeps the features of each
    identity: str  # names the model in cache keys
    items: Mapping[str, Item]  # by the digest of their picture
    pixels: Pixels  # returns the items' images

    def __call__(self, texts: Sequence[str]) -> list[list[Tensor]]:
        """Returns of each text the features of its pictures, in order; PmgError if one can't be read."""
        wanted = [find_pictures(text) for text in texts]
        digests = list(dict.fromkeys(chain.from_iterable(wanted)))
        kept = {digest: self.cache.load(self._key(digest)) for digest in digests}
        found = {digest: tensors["features"] for digest, tensors in kept.items() if tensors}
        missing = [digest for digest in digests if digest not in found]
        found |= zip(missing, self._encode(missing), strict=True)
        return [[found[digest] for digest in row] for row in wanted]

    def _encode(self, digests: Sequence[str]) -> list[Tensor]:
        made: list[Tensor] = []
        for start in range(0, len(digests), READ_AT_ONCE):
            some = digests[start : start + READ_AT_ONCE]
            images = self.pixels([self.items[digest] for digest in some])
            made += self.language_model.encode_pictures(images)
            for digest, features in zip(some, made[start:], strict=True):
                self.cache.save(self._key(digest), {"features": features})
        return made

    def _key(self, digest: str) -> str:
        return Cache.key(kind="picture", model=self.identity, picture=digest)


@dataclass(frozen=True)
class WrittenHistories:
    """Histories as texts, one a profile."""

    texts: Sequence[str]  # up to the first question, see `pmg.preferences.scenarios.verbalize_history`
    language_model: LanguageModel  # reads them
    cache: Cache  # keeps the states
    identity: str  # names the language model in keys of the cache
    pictures: PictureLookup = no_pictures  # looks up the features of the texts' pictures

    def states(self, layers: Sequence[int]) -> list[Tensor]:
        """Returns the hidden states of each text's tokens behind so many layers, in the model's dtype.

        `(T, len(layers) * width)` each. A layer takes a tenth of the room of keys and values, and less to compute the
        lower it is. PmgError if the language model has no such layer, or reads shorter texts.
        """
        found: list[Tensor] = []
        for start in track(range(0, len(self.texts), ENTRY), "Reading histories"):
            texts = list(self.texts[start : start + ENTRY])
            key = Cache.key(kind="states", model=self.identity, layers=[*layers], texts=texts)
            read = self.cache.fetch(key, lambda texts=texts: self._read(texts, layers))  # type: ignore[misc]
            found += read["states"].split(read["lengths"].tolist())
        return found

    def _read(self, texts: list[str], layers: Sequence[int]) -> dict[str, Tensor]:
        states = self.language_model.layer_states(texts, layers, self.pictures(texts))
        return {"states": torch.cat(states), "lengths": torch.tensor([len(rows) for rows in states])}
