"""What a user's messages state: likes or dislikes, by a language model, and options, by sentence embeddings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor
from torch.nn.functional import normalize

from pmg.data.chats import USER
from pmg.domain import Keywords, PmgError, Turn
from pmg.models.diffusion.interfaces import PromptEncoder
from pmg.models.language.language_model import LanguageModel
from pmg.preferences.keywords import LIMIT, scored
from pmg.preferences.scenarios import Attribute, Scenario

SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")


def judge_messages(language_model: LanguageModel, messages: Sequence[str], scenario: Scenario) -> Tensor:
    """Returns how much more each message states a like than a dislike, float32 `(N,)`; negative for a dislike.

    The difference of the log-likelihoods of the two options of `Scenario.opinion` after `Scenario.message_template`,
    less its mean over the scenario's reference messages (contextual calibration, Zhao et al. 2021): small language
    models answer every message alike without it.

    Raises:
        PmgError: the scenario has no `opinion`.
    """
    if scenario.opinion is None:
        raise PmgError(
            f"scenario '{scenario.name}' has no opinion, by which messages are judged. Add one to its config."
        )
    # a line break inside a message could be mistaken for the end of the message
    texts = [" ".join(text.split()) for text in (*scenario.reference_messages, *messages)]
    context = language_model.prefill([scenario.message_template.format(message=text) for text in texts])
    options = [f" {option}" for option in scenario.opinion.options]
    like, dislike = language_model.score_shared_options(context, scenario.opinion.question, options).T
    references = len(scenario.reference_messages)
    difference = like - dislike
    return difference[references:] - (difference[:references].mean() if references else 0)


def own_messages(conversation: Sequence[Turn]) -> list[str]:
    """Returns the texts of the user's own messages."""
    return [turn.text for turn in conversation if turn.speaker == USER]


def split_messages(
    conversation: Sequence[Turn], opinions: Sequence[float]
) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """Returns the user's messages that state no dislike, and those that state one.

    Args:
        conversation: oldest first.
        opinions: of `own_messages`, see `judge_messages`.
    """
    own = [turn for turn in conversation if turn.speaker == USER]
    judged = list(zip(own, opinions, strict=True))
    liked = tuple(turn for turn, opinion in judged if opinion >= 0)
    return liked, tuple(turn for turn, opinion in judged if opinion < 0)


@dataclass(frozen=True)
class MessageMatcher:
    """Finds what messages state among the options of attributes.

    A sentence states the option that it resembles most, by the cosine of their pooled vectors. Nothing is
    trained for this.

    Attributes:
        text_encoder: gives pooled vectors of sentences.
        attributes: their options are compared.
        least: cosine below which a sentence states nothing.
    """

    text_encoder: PromptEncoder
    attributes: Mapping[str, Attribute]
    least: float

    @cached_property
    def options(self) -> list[str]:
        """All options.

        Raises:
            PmgError: there are none.
        """
        options = [option for attribute in self.attributes.values() for option in attribute.options]
        if not options:
            raise PmgError("scenario.match compares messages with options, and the scenario's attributes have none")
        return options

    @cached_property
    def option_vectors(self) -> Tensor:
        """Unit vectors of the options, `(N, D)`."""
        return self.embed(self.options)

    def __call__(self, messages: Sequence[str]) -> list[str]:
        """Returns the different options that messages state, in the order of the messages.

        Raises:
            PmgError: the attributes have no options, or the text encoder gives no pooled vectors.
        """
        sentences = [sentence for message in messages for sentence in split_sentences(message, self.fits)]
        if not sentences:
            return []
        cosines, places = (self.embed(sentences) @ self.option_vectors.T).max(dim=1)
        stated = places[cosines >= self.least].tolist()
        return list(dict.fromkeys(self.options[place] for place in stated))

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Returns a unit vector of each text, `(N, D)`."""
        pooled = self.text_encoder.encode(texts, padded=False).pooled.float()
        if not pooled.numel():
            raise PmgError("scenario.match needs a text encoder with pooled vectors, and the generator's has none")
        return normalize(pooled, dim=-1)

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

    def fits(self, text: str) -> bool:
        """Returns whether the text encoder reads a text whole."""
        return self.text_encoder.count_tokens(text) <= self.text_encoder.max_length


def split_sentences(message: str, fits: Callable[[str], bool]) -> list[str]:
    """Returns the sentences of a message; those that don't fit are halved until they do.

    Args:
        message: of a user.
        fits: returns whether a text can be read whole; single words that can't are left out.
    """
    found: list[str] = []
    waiting = [part for part in SENTENCE.split(message) if part.strip()]
    while waiting:
        words = waiting.pop(0).split()
        if fits(" ".join(words)):
            found.append(" ".join(words))
        elif len(words) > 1:
            half = len(words) // 2
            waiting = [" ".join(words[:half]), " ".join(words[half:]), *waiting]
    return found


def add_stated(
    decoded: Keywords, stated: Sequence[str], attributes: Mapping[str, Attribute], limit: int = LIMIT
) -> Keywords:
    """Returns stated words, then the decoded ones of attributes that no message is about; `limit` at most.

    Args:
        decoded: words of a language model.
        stated: options that messages state; their score is 0, that of a certain word.
        attributes: of both.
        limit: most words.
    """
    about = [attribute.options for attribute in attributes.values() if set(stated) & set(attribute.options)]
    replaced = {option for options in about for option in options}
    rest = [(word, score) for word, score in scored(decoded) if word not in replaced]
    pairs = [*((word, 0.0) for word in stated), *rest][:limit]
    return Keywords(tuple(word for word, _ in pairs), tuple(score for _, score in pairs))


def build_matcher(scenario: Scenario, text_encoder: PromptEncoder | None) -> MessageMatcher | None:
    """Returns the matcher of a scenario; None where it has no `match`.

    Raises:
        PmgError: it has, and there is no text encoder.
    """
    if scenario.match is None:
        return None
    if text_encoder is None:
        raise PmgError(f"scenario '{scenario.name}' has match, which needs the generator's text encoder")
    return MessageMatcher(text_encoder, scenario.attributes, scenario.match)
