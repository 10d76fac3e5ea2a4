"""The preferences of the inference API's users: how they are read, and requests for images under them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real

import torch
from PIL import Image, ImageOps
from torch import Tensor

from pmg.api.call_arguments import Pictured, UserInput
from pmg.cache import NoCache
from pmg.configuration.ranges import WEAKEST
from pmg.data.dataset import ItemRows
from pmg.domain import Example, Interaction, Item, Keywords, PmgError
from pmg.generation.alpha import AlphaRule
from pmg.generation.capability_checks import check_start
from pmg.generation.requests import Method, Preference, Request, RequestBuilder
from pmg.generation.user_reading import read_users
from pmg.models.diffusion.interfaces import Generator
from pmg.models.vision.pictures import UNREADABLE, to_rgb
from pmg.preferences.captioning import PICTURE_SIZE, Captioner, caption_items, from_picture
from pmg.preferences.extraction import ExtractedPreferences, PreferenceExtractor
from pmg.preferences.keyword_sources import negative_prompt
from pmg.preferences.keywords import NO_WORDS
from pmg.preferences.sources import PreferenceSource, SourceContext
from pmg.progress import no_bars

TOGETHER = 16  # most users that are read at once


@dataclass(frozen=True)
class UserPreference:
    """What a method's preference sources gave of one user, without a target."""

    method: Method
    sources: Preference
    example: Example  # the user's history and conversation
    captions: Mapping[str, str]  # descriptions of the items in the history, by id

    @property
    def keywords(self) -> Keywords:
        """The keywords that candidates are compared with; no words without any."""
        return self.sources.read(self.method.keywords, self.example.target) or NO_WORDS


@dataclass(frozen=True)
class UserReader:
    """Reads users of the inference API for the images of one method.

    `sources` are those of the method, by name; `captioner` describes items in words.
    """

    extractor: PreferenceExtractor
    captioner: Captioner
    generator: Generator
    method: Method
    sources: Mapping[str, PreferenceSource]

    def __call__(self, users: Sequence[UserInput]) -> list[UserPreference]:
        """Returns the preference of each user. All are extracted together, see `read_together` for who can be."""
        pictures = GivenPictures([one for user in users for one in (*user.liked, *user.disliked)])
        examples = [_to_example(str(number), user) for number, user in enumerate(users)]
        items = [one.item for example in examples for one in example.history]
        with no_bars():
            captions = caption_items(self.captioner, items, pictures.of_items)

            def make_context(users: Sequence[Example], extracted: ExtractedPreferences) -> SourceContext:
                """Returns what sources get."""
                return SourceContext(
                    examples=users, images=pictures, captions=captions, extracted=extracted, extractor=self.extractor,
                    generator=self.generator, cache=NoCache(), identity="", seed=0, folders={},
                )  # fmt: skip

            read = read_users(examples, captions, self.extractor, self.sources, make_context, pixels=pictures.of_items)
        own = [{one.item.id: captions[one.item.id] for one in example.history} for example in examples]
        return [
            UserPreference(self.method, read[example.profile], example, said)
            for example, said in zip(examples, own, strict=True)
        ]


def read_together(users: Sequence[UserInput]) -> list[list[UserInput]]:
    """Returns the users of a call in groups that are read together, in their order.

    Pictures of a group have one size, and no two of its users mean different items by one id.
    """
    groups: list[list[UserInput]] = []
    size, known = 0, dict[str, Pictured]()
    for user in users:
        items = {item.id: (item, picture) for item, picture in (*user.liked, *user.disliked)}
        own = picture_size(list(items.values()))
        if (
            not groups
            or own != size
            or len(groups[-1]) == TOGETHER
            or any(known.get(name, one) != one for name, one in items.items())
        ):
            groups.append([])
            size, known = own, {}
        groups[-1].append(user)
        known |= items
    return groups


def _to_example(name: str, user: UserInput) -> Example:
    """Returns a user as an example, whose target is that of a request."""
    interactions = [Interaction(item, "disliked", liked=False) for item, _ in user.disliked]
    interactions += [Interaction(item) for item, _ in user.liked]  # inputs read the latest ones
    return Example(name, name, tuple(interactions), Item("", "", ""), (), {}, user.conversation)


def build_request(
    preference: UserPreference | None, target: Item, extractor: PreferenceExtractor, alpha_rule: AlphaRule,
    alpha: float | None = None,
) -> Request:  # fmt: skip
    """Returns the request for an image of `target` under a preference, with the seed 0; None: without one.

    `alpha` is the share of the preference score, in [0, 1]; where it is None the rule computes it.
    """
    given = preference or UserPreference(Method(), Preference("", {}), Example("", "", (), target, ()), {})
    example = replace(given.example, target=target)
    avoided = extractor.budget.fit(negative_prompt(extractor.scenario.negative_prompt))
    build = RequestBuilder(extractor.targets([example]), alpha_rule, 0, avoided)
    request = replace(build(example, given.method, given.sources), seed=0)
    return request if alpha is None else replace(request, alpha=float(alpha))


def read_starts(
    image: Image.Image | Sequence[Image.Image] | None, strength: float, count: int, generator: Generator
) -> list[Tensor | None]:  # fmt: skip
    """Returns what the images of `count` targets start from, `(3, size, size)` in [-1, 1]; None: noise.

    Pictures that aren't square are padded with white. PmgError if there is neither one image nor one for each target,
    `strength` is out of range, or the generator starts from no image.
    """
    if image is None:
        return [None] * count
    check_start("image", generator.supports)
    images = [image] * count if isinstance(image, Image.Image) else image
    if not (isinstance(images, Sequence) and len(images) == count and all(isinstance(e, Image.Image) for e in images)):
        raise PmgError(f"image must be a picture of PIL, or a list of one for each of the {count} targets")
    if not (isinstance(strength, Real) and WEAKEST <= strength <= 1):
        raise PmgError(f"strength must be in [{WEAKEST}, 1], got {strength!r:.80}")
    return [_read_picture("image", picture, generator.size) for picture in images]


def picture_size(items: Sequence[Pictured]) -> int:
    """Returns the side in pixels at which pictures are read: that of the largest one, at most `PICTURE_SIZE`."""
    return min(PICTURE_SIZE, max((max(one.size) for _, one in items if one is not None), default=PICTURE_SIZE))


class GivenPictures(ItemRows):
    """An `ImageStore` of the pictures that a caller gave with items, as large as the largest up to `PICTURE_SIZE`."""

    missing = "item '{item.title}' has no image, and the captioner requires images. Give it an image."

    def __init__(self, items: Sequence[Pictured]) -> None:
        self._pictures = [(item, picture) for item, picture in items if picture is not None]
        super().__init__(item for item, _ in self._pictures)
        self.size = picture_size(items)

    def pixels(self, rows: Tensor) -> Tensor:
        """Returns the pictures of rows, float32 in [-1, 1], `(B, 3, size, size)`; PmgError if one can't be read."""
        given = [self._pictures[row] for row in rows.tolist()]
        return torch.stack(
            [_read_picture(f"the image of item '{item.title}'", picture, self.size) for item, picture in given]
        )

    def of_items(self, items: Sequence[Item]) -> Tensor:
        """Returns the pictures of items, as `pixels`."""
        return self.pixels(self.rows(items))


def _read_picture(name: str, picture: Image.Image, size: int) -> Tensor:
    """Returns a picture as an image `(3, size, size)` in [-1, 1], padded with white to a square; PmgError names it."""
    try:
        return from_picture(ImageOps.pad(to_rgb(picture), (size, size), color="white"), size)
    except UNREADABLE as error:  # Pillow reads a file when its pixels are needed
        raise PmgError(f"{name} can't be read ({' '.join(str(error).split())[:160]}). Give another one.") from error
