"""Histories within what a language model reads: the oldest items that don't fit are left out, and counted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from pmg.domain import Example
from pmg.models.language.language_model import LanguageModel
from pmg.preferences.scenarios import Scenario, verbalize_dislikes, verbalize_history

RESERVED = 256  # tokens for the question behind a history and its answer, or for soft tokens

log = logging.getLogger(__name__)


class HistoryWriter:
    """Writes histories as prompts; for language models that see, whose pictures have many tokens, those that fit."""

    def __init__(self, language_model: LanguageModel, scenario: Scenario) -> None:
        self.language_model, self.scenario = language_model, scenario
        self.left_out: dict[str, int] = {}

    def likes(self, example: Example, captions: Mapping[str, str] | None) -> str:
        """Returns the prompt of an example's likes, see `verbalize_history`, with at least the latest item."""
        scenario = self._fit(verbalize_history, example, len(example.liked), captions)
        return verbalize_history(example, scenario, captions)

    def dislikes(self, example: Example, captions: Mapping[str, str] | None) -> str | None:
        """Returns the prompt of an example's dislikes, see `verbalize_dislikes`, with at least the latest item."""
        scenario = self._fit(verbalize_dislikes, example, len(example.disliked), captions)
        return verbalize_dislikes(example, scenario, captions)

    def warn(self) -> None:
        """Logs how many histories lost how many items."""
        if self.left_out:
            user, most = max(self.left_out.items(), key=lambda pair: pair[1])
            log.warning(
                "%d histories are longer than the %d tokens that the language model reads: the oldest items are left "
                "out, up to %d (user '%s'). Lower encoder.language_model.tokens_per_picture or scenario.max_items",
                len(self.left_out), self.language_model.limit, most, user,
            )  # fmt: skip

    def _fit(
        self, write: Callable[..., str | None], example: Example, items: int, captions: Mapping[str, str] | None
    ) -> Scenario:
        """Returns the scenario with as many items as fit."""
        scenario, limit = self.scenario, self.language_model.limit
        if not self.language_model.reads_pictures or limit is None:
            return scenario
        most = kept = min(items, scenario.max_items)
        while kept > 1 and self._length(write(example, scenario, captions)) > limit - RESERVED:
            kept -= 1
            scenario = replace(scenario, max_items=kept)
        if kept < most:
            self.left_out[example.profile] = self.left_out.get(example.profile, 0) + most - kept
        return scenario

    def _length(self, text: str | None) -> int:
        return len(self.language_model.tokenize(text)) if text else 0
