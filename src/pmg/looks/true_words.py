"""A preference source of a simulated user's true words: those of pictures that show the user's look exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pmg.domain import Example, Interaction, Item, Keywords
from pmg.looks.style_tokens import REFERENCES_LABEL
from pmg.preferences.captioning import Captioner
from pmg.preferences.keyword_sources import count_keywords
from pmg.preferences.sources import KeywordSource, Requirements, SourceContext


@dataclass(frozen=True)
class TrueWords(KeywordSource):
    """Words counted in captions of pictures of the user's exact look: an upper bound, for simulated users alone."""

    captioner: Captioner

    @property
    def requires(self) -> Requirements:
        """The label with the pictures' ids."""
        return Requirements(labels=(REFERENCES_LABEL,))

    def __call__(self, context: SourceContext) -> Sequence[Keywords]:
        """Returns the counted words, see `count_keywords`."""
        return [context.extractor.budget.fit(self._count(example, context)) for example in context.examples]

    def _count(self, example: Example, context: SourceContext) -> Keywords:
        items = [Item(name, "", "") for name in example.labels[REFERENCES_LABEL].split()]
        captions = self.captioner(items, context.images.pixels(context.images.rows(items)))
        shown = replace(example, history=tuple(map(Interaction, items)))
        by_id = dict(zip((item.id for item in items), captions, strict=True))
        return count_keywords(shown, context.extractor.scenario, by_id)
