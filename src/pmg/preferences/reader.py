"""What the language model makes of users and targets: contexts and keywords, cached."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from rich.progress import track
from torch import Tensor

from pmg.cache import Cache
from pmg.domain import Example, Item, Keywords
from pmg.models.language.context import Context
from pmg.models.language.language_model import LanguageModel
from pmg.preferences.contexts import Contexts, KeptContexts, UnkeptContexts
from pmg.preferences.keyword_budget import Budget
from pmg.preferences.keyword_decoding import Decoding
from pmg.preferences.keywords import ASKED, USED, target_keywords, without
from pmg.preferences.scenarios import Scenario, verbalize_dislikes, verbalize_history

CHUNK = 50  # users a cache entry: small enough that little is lost when a run is stopped


@dataclass(frozen=True)
class Readings:
    """What was read of `U` profiles: users, or users at different times.

    Attributes:
        profiles: their names.
        context: their read histories.
        keywords: their explicit preference.
        negative: what they dislike and do not like as well; no words for users without dislikes.
    """

    profiles: list[str]
    context: Contexts
    keywords: list[Keywords]
    negative: list[Keywords]

    def rows(self, profiles: Sequence[str]) -> list[int]:
        """Row of each of `profiles`."""
        index = {profile: row for row, profile in enumerate(self.profiles)}
        return [index[profile] for profile in profiles]


class Reader:
    """Reads histories with a frozen language model.

    Args:
        language_model: the model.
        scenario: prompts.
        cache: keeps contexts and keywords between runs.
        identity: names the model in cache keys, e.g. its source and dtype.
        decoding: makes keywords of attributes.
        budget: what the text encoder can read; keywords beyond it are dropped, and named in `Keywords.dropped`.
        keep: whether contexts stay in the cache; else each is computed when it is needed.
    """

    def __init__(
        self, language_model: LanguageModel, scenario: Scenario, cache: Cache, identity: str, decoding: Decoding,
        budget: Budget, keep: bool = True,
    ) -> None:  # fmt: skip
        self.language_model, self.scenario, self.cache, self.identity = language_model, scenario, cache, identity
        self.decoding, self.budget, self.keep = decoding, budget, keep

    def read(self, examples: Sequence[Example], captions: Mapping[str, str] | None = None) -> Readings:
        """Reads each profile of `examples` once.

        Args:
            examples: of any number of users.
            captions: each item's look by its id; by default the scenario's, from the item's facts.
        """
        firsts = list({example.profile: example for example in reversed(examples)}.values())[::-1]
        parts: list[Contexts] = []
        keywords: list[Keywords] = []
        negative: list[Keywords] = []
        chunks = [firsts[start : start + CHUNK] for start in range(0, len(firsts), CHUNK)]
        for chunk in track(chunks, description="Reading histories"):
            texts = [verbalize_history(example, self.scenario, captions) for example in chunk]
            parts.append(self._contexts(texts))
            likes = self._decode(texts, lambda part=parts[-1]: part.select(range(len(part))))
            dislikes = self._dislikes([verbalize_dislikes(example, self.scenario, captions) for example in chunk])
            keywords += likes
            negative += [without(bad, good.words) for bad, good in zip(dislikes, likes, strict=True)]
        fitted = [[self.budget.fit(words) for words in column] for column in (keywords, negative)]
        return Readings([example.profile for example in firsts], type(parts[0]).concatenate(parts), *fitted)

    def _contexts(self, texts: list[str]) -> Contexts:
        if not self.keep:
            return UnkeptContexts(self.language_model, texts)

        def compute() -> dict:
            return self.language_model.prefill(texts).to_tensors()

        key = Cache.key(kind="contexts, user by user", model=self.identity, texts=texts)
        tensors = self.cache.fetch(key, compute)
        return KeptContexts([(self.cache.lazy(key, tensors), len(texts))])

    def _decode(self, texts: list[str], read: Callable[[], Context]) -> list[Keywords]:
        """Keywords of texts; `read` is called where they are not known."""

        def compute() -> dict:
            return to_tensors(self.decoding(self.language_model, read(), self.scenario.attributes))

        attributes = [asdict(attribute) for attribute in self.scenario.attributes.values()]
        parts = {"model": self.identity, "texts": texts, "attributes": attributes, "decoding": repr(self.decoding)}
        return from_tensors(self.cache.fetch(Cache.key(kind="keywords", **parts), compute))

    def _dislikes(self, texts: Sequence[str | None]) -> list[Keywords]:
        """Keywords of the texts that there are, no words for the others."""
        told = [text for text in texts if text is not None]
        words = iter(self._decode(told, lambda: self.language_model.prefill(told)) if told else ())
        return [Keywords(()) if text is None else next(words) for text in texts]

    def describe(self, items: Sequence[Item]) -> dict[str, Keywords]:
        """Target keywords of each different concept among `items`, by concept."""
        unique = {item.concept: item for item in items}
        found = {concept: self.cache.load(self._key(item)) for concept, item in unique.items()}
        missing = [item for concept, item in unique.items() if found[concept] is None]
        made = target_keywords(self.language_model, missing, self.scenario) if missing else []
        for item, keywords in zip(missing, made, strict=True):
            found[item.concept] = to_tensors([keywords])
            self.cache.save(self._key(item), found[item.concept])
        return {concept: self.budget.fit(from_tensors(tensors)[0]) for concept, tensors in found.items()}

    def _key(self, item: Item) -> str:
        scenario = self.scenario
        prompts = [scenario.target_prefix, scenario.target_question, *scenario.scene_words]
        parts = {"model": self.identity, "prompts": prompts, "title": item.title, "keywords": item.keywords}
        return Cache.key(kind="target", asked=ASKED, used=USED, **parts)


def to_tensors(keywords: Sequence[Keywords]) -> dict[str, Tensor]:
    """Keywords in the form that the cache keeps."""
    text = json.dumps([asdict(words) for words in keywords], ensure_ascii=False)
    return {"json": torch.tensor(list(text.encode()), dtype=torch.uint8)}


def from_tensors(tensors: Mapping[str, Tensor]) -> list[Keywords]:
    """Rebuilds what `to_tensors` gave."""
    rows = json.loads(bytes(tensors["json"].tolist()))
    return [Keywords(**{name: tuple(values) for name, values in row.items()}) for row in rows]
