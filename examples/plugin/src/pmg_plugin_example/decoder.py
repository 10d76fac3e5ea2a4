"""A keyword decoder: all options that are likely enough, instead of a fixed number of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from pmg.configuration.ranges import Count, Fraction
from pmg.domain import Keywords
from pmg.models.language.context import Context
from pmg.models.language.language_model import LanguageModel
from pmg.preferences.keywords import attribute_scores, merge_keywords
from pmg.preferences.scenarios import Attribute


@dataclass(frozen=True)
class LikelyOptions:
    """Options whose probability among those of their attribute is at least `threshold`; at most `limit` of them."""

    threshold: Fraction = 0.2
    limit: Count = 8

    def __call__(
        self, language_model: LanguageModel, context: Context, attributes: Mapping[str, Attribute]
    ) -> list[Keywords]:
        """Returns the keywords of each of the B users of `context`."""
        scores = attribute_scores(language_model, context, attributes)
        return [
            merge_keywords(
                [self._select(each.options, scores[name][row]) for name, each in attributes.items()], self.limit
            )
            for row in range(len(context))
        ]

    def _select(self, options: Sequence[str], scores: Tensor) -> Keywords:
        pairs = zip(options, scores.log_softmax(-1).tolist(), strict=True)
        likely = {option: score for option, score in pairs if math.exp(score) >= self.threshold}
        return Keywords(tuple(likely), tuple(likely.values()))
