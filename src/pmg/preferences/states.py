"""The states that a frozen language model has of histories, token by token, for encoders that read them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pmg.cache import Cache
from pmg.models.language.language_model import LanguageModel
from pmg.preferences.contexts import PictureLookup, no_pictures
from pmg.progress import track

CHUNK = 50  # users a cache entry: small enough that little is lost when a run is stopped


@dataclass(frozen=True)
class WrittenHistories:
    """Histories as texts, one a profile.

    Attributes:
        texts: up to the first question, see `pmg.preferences.scenarios.verbalize_history`.
        language_model: reads them.
        cache: keeps the states.
        identity: names the language model in keys of the cache.
        pictures: looks up the features of the texts' pictures.
    """

    texts: Sequence[str]
    language_model: LanguageModel
    cache: Cache
    identity: str
    pictures: PictureLookup = no_pictures

    def states(self, layers: Sequence[int]) -> list[Tensor]:
        """Returns the hidden states of each text's tokens behind so many layers, in the model's dtype.

        `(T, len(layers) * width)` each. A layer takes a tenth of the room of keys and values, and less to compute the
        lower it is. PmgError if the language model has no such layer, or reads shorter texts.
        """
        found: list[Tensor] = []
        for start in track(range(0, len(self.texts), CHUNK), "Reading histories"):
            texts = list(self.texts[start : start + CHUNK])
            key = Cache.key(kind="states", model=self.identity, layers=[*layers], texts=texts)
            read = self.cache.fetch(key, lambda texts=texts: self._read(texts, layers))  # type: ignore[misc]
            found += read["states"].split(read["lengths"].tolist())
        return found

    def _read(self, texts: list[str], layers: Sequence[int]) -> dict[str, Tensor]:
        states = self.language_model.layer_states(texts, layers, self.pictures(texts))
        return {"states": torch.cat(states), "lengths": torch.tensor([len(rows) for rows in states])}
