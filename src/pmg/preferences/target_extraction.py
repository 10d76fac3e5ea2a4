"""Keywords of targets: of items with a title, and of images that answer a conversation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property

import torch

from pmg.cache import Cache
from pmg.domain import Example, Item, Keywords, PmgError, Turn
from pmg.models.language.language_model import LanguageModel
from pmg.preferences.conversation import chat_keywords, probe_writing, written_keywords
from pmg.preferences.keyword_budget import Budget
from pmg.preferences.keyword_tensors import from_tensors, to_tensors
from pmg.preferences.keywords import KEPT, RANKED, target_keywords
from pmg.preferences.scenarios import Scenario

log = logging.getLogger(__name__)


class TargetExtractor:
    """Extracts keywords of targets with a frozen language model.

    Args:
        language_model: the model.
        scenario: prompts.
        cache: keeps keywords between runs.
        identity: names the model in cache keys, e.g. its source and dtype.
        budget: what the text encoder can read; keywords beyond it are dropped, and named in `Keywords.dropped`.
    """

    def __init__(
        self, language_model: LanguageModel, scenario: Scenario, cache: Cache, identity: str, budget: Budget
    ) -> None:
        self.language_model, self.scenario, self.cache = language_model, scenario, cache
        self.identity, self.budget = identity, budget

    def targets(self, examples: Sequence[Example]) -> dict[str, Keywords]:
        """Returns the keywords of each different target, by concept; those without a title answer the conversation.

        Raises:
            PmgError: an example has neither a target's title nor a conversation.
        """
        unnamed = [example for example in examples if not example.target.title]
        for example in unnamed:
            if not example.conversation:
                raise PmgError(f"example '{example.id}' has no target, and no conversation that an image could answer")
        made = self.answer([example.conversation for example in unnamed]) if unnamed else []
        proposed = {example.target.concept: words for example, words in zip(unnamed, made, strict=True)}
        return self.describe([example.target for example in examples if example.target.title]) | proposed

    def answer(self, conversations: Sequence[Sequence[Turn]]) -> list[Keywords]:
        """Returns the keywords of an image that answers each conversation.

        Where the language model passes the probe of `target_writing`, it writes them; else, and where it wrote nothing
        that can be used, options are ranked, see `chat_keywords`.
        """
        model, scenario, writing = self.language_model, self.scenario, self.scenario.target_writing
        found: list[Keywords | None] = [None] * len(conversations)
        if writing is not None and self._probed >= writing.least:
            found = written_keywords(model, conversations, scenario, writing)
        rest = [turns for turns, words in zip(conversations, found, strict=True) if words is None]
        ranked = iter(chat_keywords(model, rest, scenario) if rest else [])
        return [self.budget.fit(next(ranked) if words is None else words) for words in found]

    @cached_property
    def _probed(self) -> float:
        """Share of the probe of `target_writing` that the language model passes; 0 where there is no probe."""
        scenario, writing = self.scenario, self.scenario.target_writing
        if writing is None:
            return 0.0

        def compute() -> dict:
            """Returns the share as a tensor."""
            return {"share": torch.tensor(probe_writing(self.language_model, scenario, writing))}

        templates = [scenario.chat_template, scenario.turn, asdict(writing)]
        key = Cache.key(kind="target probe", model=self.identity, templates=templates)
        share = float(self.cache.fetch(key, compute)["share"])
        log.info(
            "the language model passes %.2f of the probe of targets; %.2f are needed to write them",
            share,
            writing.least,
        )
        return share

    def describe(self, items: Sequence[Item]) -> dict[str, Keywords]:
        """Returns target keywords of each different concept among `items`, by concept."""
        unique = {item.concept: item for item in items}
        found = {concept: self.cache.load(self._key(item)) for concept, item in unique.items()}
        missing = [item for concept, item in unique.items() if found[concept] is None]
        made = target_keywords(self.language_model, missing, self.scenario) if missing else []
        for item, keywords in zip(missing, made, strict=True):
            tensors = to_tensors([keywords])
            found[item.concept] = tensors
            self.cache.save(self._key(item), tensors)
        return {concept: self.budget.fit(from_tensors(kept)[0]) for concept, kept in found.items() if kept}

    def _key(self, item: Item) -> str:
        scenario = self.scenario
        prompts = [scenario.target_prefix, scenario.target_question, *scenario.scene_words]
        parts = {"model": self.identity, "prompts": prompts, "title": item.title, "keywords": item.keywords}
        return Cache.key(kind="target", ranked=RANKED, kept=KEPT, **parts)
