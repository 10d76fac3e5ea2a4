"""Inputs of an encoder of soft tokens: a user's prefilled history, or features of their liked images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from pmg.configuration.instantiate import built_class
from pmg.data.dataset import ImageStore, require_liked
from pmg.domain import Example
from pmg.models.language.context import Context
from pmg.models.preference.token_encoder import UserFeatures
from pmg.models.vision.scorer import Scorer
from pmg.preferences.contexts import Contexts
from pmg.preferences.extraction import ExtractedPreferences

SCORED_AT_ONCE = 128  # pictures


class UserInputs(Protocol):
    """Inputs of `U` users, one row each."""

    def __len__(self) -> int:
        """Returns U."""

    def prefetch(self, rows: Tensor) -> None:
        """Prepares the rows `(B,)` that will be selected soon; may do nothing."""

    def select(self, rows: Sequence[int] | Tensor) -> Any:
        """Returns the inputs of B users, in that order, as the encoder takes them."""


class EncoderInputs(Protocol):
    """Prepares the inputs of an encoder; named by ``inputs`` in the config and ``inputs`` in a pipeline.

    A class whose attribute ``needs_contexts`` is false takes no prefilled histories: they aren't computed for it.

    For forecasts of memory a class has a static method ``blank(context, token_width, pooled_width, options)``, which
    returns inputs of the shapes of real ones, without content: `context` holds such histories, one a user, the widths
    are n D of a user's soft tokens and that of the text encoder's pooled vectors, with which a scorer's are compared,
    and `options` are the config's ``inputs``.
    """

    def __call__(self, extracted: ExtractedPreferences, examples: Sequence[Example], images: ImageStore) -> UserInputs:
        """Returns the inputs of all users, one row a profile of `extracted`.

        `examples` has at least one of each profile, with its history; `images` those of the data set's items.
        """


def needs_contexts(node: Any) -> bool:
    """Returns whether the inputs that a config node builds take prefilled histories."""
    return bool(getattr(built_class(node), "needs_contexts", True))


class HistoryContexts:
    """The language model's prefilled histories: PMG."""

    @staticmethod
    def blank(context: Context, token_width: int, pooled_width: int, options: Mapping[str, Any]) -> Context:
        """Returns inputs without content, see `EncoderInputs`."""
        return context

    def __call__(self, extracted: ExtractedPreferences, examples: Sequence[Example], images: ImageStore) -> Contexts:
        """Returns the prefilled histories."""
        return extracted.context


@dataclass(frozen=True)
class ImageFeatures:
    """A frozen scorer's features of the liked images: a baseline without a language model."""

    scorer: Scorer
    needs_contexts: ClassVar[bool] = False

    @staticmethod
    def blank(context: Context, token_width: int, pooled_width: int, options: Mapping[str, Any]) -> UserFeatures:
        """Returns features without content, see `EncoderInputs`."""
        return UserFeatures(torch.zeros(len(context), pooled_width))

    @torch.no_grad()
    def __call__(
        self, extracted: ExtractedPreferences, examples: Sequence[Example], images: ImageStore
    ) -> UserFeatures:
        """Returns the mean style vectors of each user's liked images; PmgError if a user has none."""
        liked = {one.profile: require_liked(images, one, "an image prompt") for one in examples}
        histories = [images.pixels(images.rows(liked[profile])) for profile in extracted.profiles]
        style = torch.cat([self.scorer(part)[1] for part in torch.cat(histories).split(SCORED_AT_ONCE)])
        return UserFeatures(torch.stack([part.mean(0) for part in style.split([*map(len, histories)])]))
