"""Which options of attributes a user's messages state, by sentence embeddings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor
from torch.nn.functional import normalize

from pmg.data.chats import USER
from pmg.domain import Keywords, PmgError, Turn
from pmg.models.diffusion.interfaces import PromptEncoder
from pmg.preferences.keywords import LIMIT, from_pairs, scored
from pmg.preferences.scenarios import Attribute, Scenario

SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")


def own_messages(conversation: Sequence[Turn]) -> list[str]:
    """Returns the texts of the user's own messages."""
    return [turn.text for turn in conversation if turn.speaker == USER]


@dataclass(frozen=True)
class MessageMatcher:
    """Finds what messages state among the options of attributes; nothing is trained for this.

    A sentence states the option that it resembles most, by the cosine of their pooled vectors.
    """

    text_encoder: PromptEncoder
    attributes: Mapping[str, Attribute]
    least: float  # cosine below which a sentence states nothing

    @cached_property
    def options(self) -> list[str]:
        """All options; PmgError if there are none."""
        options = [option for attribute in self.attributes.values() for option in attribute.options]
        if not options:
            raise PmgError("scenario.match compares messages with options, and the scenario's attributes have none")
        return options

    @cached_property
    def option_vectors(self) -> Tensor:
        """Unit vectors of the options, `(N, D)`."""
        return embed_texts(self.text_encoder, self.options)

    def __call__(self, messages: Sequence[str]) -> list[str]:
        """Returns the different options that messages state, in the messages' order; PmgError as of `embed_texts`."""
        sentences = [sentence for message in messages for sentence in split_sentences(message, self.text_encoder)]
        if not sentences:
            return []
        cosines, places = (embed_texts(self.text_encoder, sentences) @ self.option_vectors.T).max(dim=1)
        stated = places[cosines >= self.least].tolist()
        return list(dict.fromkeys(self.options[place] for place in stated))

    def overlay(
        self, decoded: Mapping[str, list[Keywords]], messages: Sequence[Sequence[str]], limits: Mapping[str, int]
    ) -> dict[str, list[Keywords]]:
        """Returns keywords of U users by decoding, with what their messages state, see `add_stated`."""
        stated = [self(own) for own in messages]
        return {
            name: [
                add_stated(words, own, self.attributes, limits[name]) for words, own in zip(each, stated, strict=True)
            ]
            for name, each in decoded.items()
        }


def embed_texts(text_encoder: PromptEncoder, texts: Sequence[str]) -> Tensor:
    """Returns a unit vector of each text, `(N, D)`; PmgError if the text encoder gives no pooled vectors."""
    pooled = text_encoder.encode(texts, padded=False).pooled.float()
    if not pooled.numel():
        raise PmgError("sentences are compared by pooled vectors, and the text encoder has none")
    return normalize(pooled, dim=-1)


def split_sentences(message: str, text_encoder: PromptEncoder) -> list[str]:
    """Returns a message's sentences; those too long for the text encoder are halved, too long words are left out."""
    found: list[str] = []
    waiting = [part for part in SENTENCE.split(message) if part.strip()]
    while waiting:
        words = waiting.pop(0).split()
        if text_encoder.count_tokens(" ".join(words)) <= text_encoder.max_length:
            found.append(" ".join(words))
        elif len(words) > 1:
            half = len(words) // 2
            waiting = [" ".join(words[:half]), " ".join(words[half:]), *waiting]
    return found


def add_stated(
    decoded: Keywords, stated: Sequence[str], attributes: Mapping[str, Attribute], limit: int = LIMIT
) -> Keywords:
    """Returns stated words, of score 0, then decoded ones of attributes that no message is about; `limit` at most."""
    about = [attribute.options for attribute in attributes.values() if set(stated) & set(attribute.options)]
    replaced = {option for options in about for option in options}
    rest = [pair for pair in scored(decoded) if pair[0] not in replaced]
    return from_pairs([*((word, 0.0) for word in stated), *rest][:limit])


def build_matcher(scenario: Scenario, text_encoder: PromptEncoder | None) -> MessageMatcher | None:
    """Returns the matcher of a scenario, None without `match`; PmgError if there is no text encoder for it."""
    if scenario.match is None:
        return None
    if text_encoder is None:
        raise PmgError(f"scenario '{scenario.name}' has match, which needs the generator's text encoder")
    return MessageMatcher(text_encoder, scenario.attributes, scenario.match)
