"""The preference of one user of the inference API: its extraction, and requests for images under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor

from pmg.domain import Example, Interaction, Item, Keywords, PmgError, Turn
from pmg.generation.alpha import AlphaRule
from pmg.generation.call_arguments import UserInput
from pmg.generation.item_arguments import Pictured
from pmg.generation.requests import Request
from pmg.models.preference.token_encoder import TokenEncoder
from pmg.preferences.captioning import Captioner, Pixels, caption_items, from_picture
from pmg.preferences.extraction import PreferenceExtractor
from pmg.preferences.keyword_decoding import Decoding
from pmg.preferences.keyword_sources import negative_prompt
from pmg.preferences.keywords import join_words


@dataclass(frozen=True)
class UserPreference:
    """What the language model extracted of one user.

    Attributes:
        keywords: explicit preference.
        soft_tokens: implicit preference `(n, D)`.
        negative: negative keywords.
        history: number of interactions.
        conversation: messages, oldest first.
        captions: descriptions of the items, by id.
    """

    keywords: Keywords
    soft_tokens: Tensor
    negative: Keywords
    history: int
    conversation: tuple[Turn, ...] = ()
    captions: Mapping[str, str] = field(default_factory=dict)


def extract_preference(
    user: UserInput, target: Item, extractor: PreferenceExtractor, captioner: Captioner, decoding: Decoding,
    encoder: TokenEncoder,
) -> UserPreference:  # fmt: skip
    """Returns the preference of a user.

    Args:
        user: history and conversation.
        target: completes the example; the preference doesn't depend on it.
        extractor: of preferences, with its language model.
        captioner: describes items in words.
        decoding: selects keywords for the attributes.
        encoder: computes soft tokens from a prefilled history.
    """
    interactions = [Interaction(item) for item, _ in user.liked]
    interactions += [Interaction(item, "disliked", liked=False) for item, _ in user.disliked]
    pixels = _pixels([*user.liked, *user.disliked])
    captions = caption_items(captioner, [one.item for one in interactions], pixels)
    example = Example("0", "user", tuple(interactions), target, (), {}, user.conversation)
    extracted = extractor.extract([example], captions, [decoding], [decoding], pixels=pixels, progress=iter)
    (tokens,) = encoder.encode(extractor.language_model, extracted.context)
    (against,), (keywords,) = extracted.negative(decoding), extracted.keywords(decoding)
    avoided = join_words(negative_prompt(extractor.scenario.negative_prompt), against)
    return UserPreference(
        keywords, tokens, extractor.budget.fit(avoided), len(interactions), user.conversation, captions
    )


def build_request(
    preference: UserPreference,
    target: Item,
    extractor: PreferenceExtractor,
    alpha_rule: AlphaRule,
    alpha: float | None,
) -> Request:
    """Returns the request for an image of `target` under a preference, with the seed 0.

    Args:
        preference: of `extract_preference`.
        target: what the image shows.
        extractor: extracts the target's keywords.
        alpha_rule: share of the preference score where `alpha` is None.
        alpha: that share, in [0, 1].
    """
    (words,) = extractor.targets([Example("0", "user", (), target, (), {}, preference.conversation)]).values()
    share = alpha_rule(preference.keywords, preference.history) if alpha is None else alpha
    return Request(
        words, preference.keywords, True, preference.soft_tokens, 0, negative=preference.negative, alpha=share
    )


def _pixels(items: Sequence[Pictured]) -> Pixels | None:
    """Returns a function from items to their pixels, or None without pictures."""
    pictures = {item.id: picture for item, picture in items if picture is not None}
    if not pictures:
        return None

    def look(wanted: Sequence[Item]) -> torch.Tensor:
        """Returns the pictures of the items, `(N, 3, H, W)`."""
        missing = [item.title for item in wanted if item.id not in pictures]
        if missing:
            raise PmgError(f"item '{missing[0]}' has no image, and the captioner requires images. Give it an image.")
        return torch.stack([_read_picture(item, pictures[item.id]) for item in wanted])

    return look


def _read_picture(item: Item, picture: Image.Image) -> torch.Tensor:
    try:
        return from_picture(picture)
    except OSError as error:  # Pillow reads a file when its pixels are needed
        reason = " ".join(str(error).split())[:160]
        raise PmgError(f"the image of item '{item.title}' can't be read ({reason}). Give another one.") from error
