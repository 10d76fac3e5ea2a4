"""What the trained part of a preference knows of a user: what they did in words, or the images themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pmg.data.dataset import ImageStore
from pmg.domain import Example
from pmg.models.preference.image_prompt import HistoryFeatures, history_features
from pmg.models.vision.scorer import Scorer
from pmg.preferences.contexts import Contexts
from pmg.preferences.reader import Readings


class Evidence(Protocol):
    """From users to what an encoder takes, one row a user in the readings' order."""

    def __call__(
        self, readings: Readings, examples: Sequence[Example], catalogue: ImageStore
    ) -> Contexts | HistoryFeatures:
        """Evidence of the users of `readings`; `examples` hold their histories."""
        ...


class TextEvidence:
    """The language model's prefilled histories: PMG."""

    def __call__(self, readings: Readings, examples: Sequence[Example], catalogue: ImageStore) -> Contexts:
        """Returns the contexts that were read."""
        return readings.context


@dataclass(frozen=True)
class ImageEvidence:
    """What a scorer sees in the liked images: a baseline without a language model.

    Attributes:
        scorer: frozen.
    """

    scorer: Scorer

    def __call__(self, readings: Readings, examples: Sequence[Example], catalogue: ImageStore) -> HistoryFeatures:
        """Returns the features of each user's liked images."""
        seen = {example.profile: [item for item in example.liked if catalogue.has(item)] for example in examples}
        return history_features(self.scorer, [catalogue.pixels(catalogue.rows(seen[p])) for p in readings.profiles])
