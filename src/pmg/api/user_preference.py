"""The preference of one user of the inference API: its extraction, and requests for images under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real

import torch
from PIL import Image, ImageOps
from torch import Tensor

from pmg.api.call_arguments import Pictured, UserInput
from pmg.configuration.ranges import WEAKEST
from pmg.data.dataset import ItemRows
from pmg.domain import Example, Interaction, Item, Keywords, PmgError, Turn
from pmg.generation.alpha import AlphaRule
from pmg.generation.capability_checks import check_start
from pmg.generation.requests import Request
from pmg.models.diffusion.interfaces import Generator
from pmg.models.preference.token_encoder import TokenEncoder
from pmg.models.vision.pictures import UNREADABLE, to_rgb
from pmg.preferences.captioning import PICTURE_SIZE, Captioner, caption_items, from_picture
from pmg.preferences.extraction import PreferenceExtractor
from pmg.preferences.keyword_decoding import Decoding
from pmg.preferences.keyword_sources import negative_prompt
from pmg.preferences.keywords import NO_WORDS, join_words
from pmg.progress import no_bars
from pmg.training.encoder_inputs import EncoderInputs
from pmg.training.token_sources import name_keywords, scores_options


@dataclass(frozen=True)
class UserPreference:
    """What the language model extracted of one user."""

    keywords: Keywords  # explicit preference
    soft_tokens: Tensor  # implicit preference `(n, D)`
    negative: Keywords
    history: int  # number of interactions
    conversation: tuple[Turn, ...] = ()  # messages, oldest first
    captions: Mapping[str, str] = field(default_factory=dict)  # descriptions of the items, by id


def extract_preference(
    user: UserInput, target: Item, extractor: PreferenceExtractor, captioner: Captioner, decoding: Decoding, *,
    inputs: EncoderInputs, encoder: TokenEncoder,
) -> UserPreference:  # fmt: skip
    """Returns the preference of a user, which doesn't depend on the target: it completes the example.

    An encoder that scores the scenario's options names the keywords; else the language model's are decoded.
    """
    interactions = [Interaction(item, "disliked", liked=False) for item, _ in user.disliked]
    interactions += [Interaction(item) for item, _ in user.liked]  # inputs read the latest ones
    images = GivenPictures([*user.liked, *user.disliked])
    captions = caption_items(captioner, [one.item for one in interactions], images.of_items)
    example = Example("0", "user", tuple(interactions), target, (), {}, user.conversation)
    named = scores_options(encoder, extractor.scenario)
    decodings, prefill = [] if named else [decoding], getattr(inputs, "needs_contexts", True)
    with no_bars():
        extracted = extractor.extract(
            [example], captions, decodings, decodings, pixels=images.of_items, prefill=prefill
        )
        given = inputs(extracted, [example], images)
        (tokens,) = encoder.encode(extractor.language_model, given)
        words = name_keywords(encoder, given, extractor) if named else extracted.keywords(decoding)
    (keywords,), (against,) = words, [NO_WORDS] if named else extracted.negative(decoding)
    avoided = join_words(negative_prompt(extractor.scenario.negative_prompt), against)
    return UserPreference(
        keywords, tokens, extractor.budget.fit(avoided), len(interactions), user.conversation, captions
    )


def build_request(
    preference: UserPreference, target: Item, extractor: PreferenceExtractor, alpha_rule: AlphaRule,
    alpha: float | None,
) -> Request:  # fmt: skip
    """Returns the request for an image of `target` under a preference, with the seed 0.

    `alpha` is the share of the preference score, in [0, 1]; where it is None the rule computes it.
    """
    (words,) = extractor.targets([Example("0", "user", (), target, (), {}, preference.conversation)]).values()
    share = alpha_rule(preference.keywords, preference.history) if alpha is None else float(alpha)
    return Request(
        words, preference.keywords, True, preference.soft_tokens, 0, negative=preference.negative, alpha=share
    )


def build_plain_request(target: Item, extractor: PreferenceExtractor) -> Request:
    """Returns the request for an image of `target` without a preference, with the seed 0."""
    (words,) = extractor.describe([target]).values()
    avoided = extractor.budget.fit(negative_prompt(extractor.scenario.negative_prompt))
    return Request(words, NO_WORDS, False, None, 0, negative=avoided)


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


class GivenPictures(ItemRows):
    """An `ImageStore` of the pictures that a caller gave with items, as large as the largest up to `PICTURE_SIZE`."""

    missing = "item '{item.title}' has no image, and the captioner requires images. Give it an image."

    def __init__(self, items: Sequence[Pictured]) -> None:
        self._pictures = [(item, picture) for item, picture in items if picture is not None]
        super().__init__(item for item, _ in self._pictures)
        self.size = min(PICTURE_SIZE, max((max(picture.size) for _, picture in self._pictures), default=PICTURE_SIZE))

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
