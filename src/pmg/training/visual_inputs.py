"""Inputs of an encoder that reads pictures: histories as text, and a vector of each item's picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pmg.configuration.instantiate import built_class
from pmg.configuration.ranges import Count
from pmg.data.dataset import ImageStore
from pmg.domain import Example, Interaction, PmgError
from pmg.models.language.context import Context
from pmg.models.preference.visual_encoder import SeenHistories
from pmg.preferences.contexts import Contexts
from pmg.preferences.extraction import ExtractedPreferences
from pmg.progress import track

BATCH = 64  # pictures in one pass


class ImageEncoder(Protocol):
    """A frozen model that turns pictures into vectors."""

    are_tokens: ClassVar[bool]
    """Whether a vector holds tokens of the generator side by side, so that soft tokens can start from their mean."""

    def __call__(self, pictures: Tensor) -> Tensor:
        """Returns vectors `(B, F)` of pictures `(B, 3, H, W)` in [-1, 1]."""


@dataclass(frozen=True)
class ScorerImageEncoder:
    """The vectors of a scorer's image encoders, side by side."""

    scorer: Callable[[Tensor], Tensor | tuple[Tensor, ...]]
    are_tokens: ClassVar[bool] = False

    def __call__(self, pictures: Tensor) -> Tensor:
        """Returns vectors `(B, F)` of pictures `(B, 3, H, W)` in [-1, 1]."""
        vectors = self.scorer(pictures)
        return vectors if isinstance(vectors, Tensor) else torch.cat(vectors, 1)


def _are_tokens(options: Mapping[str, Any]) -> bool:
    return getattr(built_class(options["image_encoder"]), "are_tokens", False)


@dataclass(frozen=True)
class SeenPictures:
    """The pictures in the histories of `U` users."""

    vectors: Tensor  # of all pictures, each once, `(N, F)`
    rows: Sequence[Tensor]  # of each user's pictures in `vectors`, oldest first
    liked: Sequence[Tensor]  # which of these were liked

    @classmethod
    def blank(cls, context: Context, token_width: int, pooled_width: int, options: Mapping[str, Any]) -> SeenPictures:
        """Returns pictures without content, for `EncoderInputs.blank`; a scorer's vectors are of content and style."""
        width = token_width if _are_tokens(options) else 2 * pooled_width
        rows = (torch.zeros(options.get("pictures", 12), dtype=torch.long),) * len(context)
        return cls(torch.zeros(1, width), rows, [row == 0 for row in rows])

    def select(self, users: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Returns rows of `vectors`, 0 at padding; where there is a picture; and where it was liked, `(B, H)` each."""
        rows = pad_sequence([self.rows[user] for user in users], batch_first=True, padding_value=-1)
        liked = pad_sequence([self.liked[user] for user in users], batch_first=True)
        return rows.clamp(min=0), rows >= 0, liked


@dataclass(frozen=True)
class UsersPictures:
    """Histories of `U` users: `pmg.training.encoder_inputs.UserInputs`; `are_tokens`: see `ImageEncoder`."""

    contexts: Contexts | Context
    seen: SeenPictures
    are_tokens: bool = False

    def __len__(self) -> int:
        return len(self.contexts)

    def prefetch(self, rows: Tensor) -> None:
        """Prefetches the histories of rows `(B,)`."""
        self.contexts.prefetch(rows)

    def select(self, rows: Sequence[int] | Tensor) -> SeenHistories:
        """Returns the histories of B users, in that order."""
        places, present, liked = self.seen.select(torch.as_tensor(rows).tolist())
        return SeenHistories(self.contexts.select(rows), self.seen.vectors[places], present, liked, self.are_tokens)


@dataclass(frozen=True)
class VisualHistories:
    """Histories with their pictures."""

    image_encoder: ImageEncoder  # sees each picture once, however many users have it
    pictures: Count = 12  # most of a user, the latest

    @staticmethod
    def blank(context: Context, token_width: int, pooled_width: int, options: Mapping[str, Any]) -> UsersPictures:
        """Returns histories without content, see `EncoderInputs`."""
        seen = SeenPictures.blank(context, token_width, pooled_width, options)
        return UsersPictures(context, seen, _are_tokens(options))

    def __call__(
        self, extracted: ExtractedPreferences, examples: Sequence[Example], images: ImageStore
    ) -> UsersPictures:
        """Returns the inputs of all users, one row a profile of `extracted`; PmgError if no item has a picture."""
        histories = latest_pictures(extracted, examples, images, self.pictures)
        if not any(histories) and any(example.history for example in examples):
            raise PmgError("no item of the histories has a picture; without pictures use preference_encoder=text")
        seen = see_pictures(self.image_encoder, histories, images)
        return UsersPictures(extracted.context, seen, self.image_encoder.are_tokens)


def latest_pictures(
    extracted: ExtractedPreferences, examples: Sequence[Example], images: ImageStore, most: int
) -> list[list[Interaction]]:
    """Returns each profile's latest interactions with pictures, oldest first."""
    histories = {example.profile: example.history for example in examples}
    return [[one for one in histories[profile] if images.has(one.item)][-most:] for profile in extracted.profiles]


@torch.no_grad()
def see_pictures(
    image_encoder: ImageEncoder, histories: Sequence[Sequence[Interaction]], images: ImageStore
) -> SeenPictures:  # fmt: skip
    """Returns the pictures of histories, each seen once."""
    items = list({one.item.id: one.item for some in histories for one in some}.values())
    place = {item.id: row for row, item in enumerate(items)}
    parts = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
    vectors = [image_encoder(images.pixels(images.rows(part))) for part in track(parts, "Seeing pictures")]
    if not items:  # conversations alone
        vectors = [image_encoder(torch.zeros(1, 3, images.size, images.size))[:0]]
    return SeenPictures(
        torch.cat(vectors),
        [torch.tensor([place[one.item.id] for one in some], dtype=torch.long) for some in histories],
        [torch.tensor([one.liked for one in some], dtype=torch.bool) for some in histories],
    )
