"""From what is known of a user, and a method, to a request for one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from pmg.domain import Example, Keywords, PmgError
from pmg.generation.alpha import AlphaRule
from pmg.seeding import stable_number

NO_WORDS = Keywords(())

Value = TypeVar("Value")


@dataclass(frozen=True)
class Method:
    """Which of the things that are known of a user a method uses; things go by their names in `Preference`.

    Attributes:
        words: the preference in words that d_p compares images with; empty: the method has none.
        show_words: whether the denoiser sees the words.
        tokens: the preference tokens that the denoiser sees; empty: the method has none.
        negative: whether images are guided away from what the user dislikes.
        mismatch: whether it is also run with another user's preference, as a control.
    """

    words: str = ""
    show_words: bool = True
    tokens: str = ""
    negative: bool = False
    mismatch: bool = True

    @property
    def personal(self) -> bool:
        """Whether the user matters at all."""
        return bool(self.words or self.tokens)


@dataclass(frozen=True)
class Preference:
    """What is known of one user, by the names that methods ask for.

    Attributes:
        user: the user's id.
        words: preferences in words, e.g. ``keywords`` (the language model's) and ``truth`` (the true taste).
        tokens: preference tokens `(n, D)`, e.g. ``soft``.
        negative: what their images should not look like: the scenario's negative prompt and what they dislike.
        history: number of their behaviours.
    """

    user: str
    words: Mapping[str, Keywords]
    tokens: Mapping[str, Tensor]
    negative: Keywords = NO_WORDS
    history: int = 0


@dataclass(frozen=True)
class Request:
    """One image to make.

    Attributes:
        target: target keywords.
        words: preference in words, also what d_p compares the image with; empty for none.
        show_words: whether the denoiser sees `words`.
        soft: soft tokens `(n, D)`, or None.
        seed: seed of the noise.
        negative: what the image should not look like; empty for none.
        alpha: share of the preference score in z, in [0, 1]; see `share`.
    """

    target: Keywords
    words: Keywords
    show_words: bool
    soft: Tensor | None
    seed: int
    negative: Keywords = NO_WORDS
    alpha: float = 0.5

    @property
    def share(self) -> float:
        """Alpha as it counts: without words there is no preference score."""
        return self.alpha if self.words.words else 0.0


def join_words(*parts: Keywords) -> Keywords:
    """All words one after another; words without a score count as chosen for certain (0)."""
    scores = (score for part in parts for score in part.scores or (0.0,) * len(part.words))
    return Keywords(tuple(word for part in parts for word in part.words), tuple(scores))


@dataclass(frozen=True)
class RequestBuilder:
    """Makes requests.

    Attributes:
        targets: target keywords by concept.
        alpha_rule: each user's share of the preference score.
        seed: of the noise, which depends on the example and this alone: methods are compared from the same noise.
        negative: the scenario's negative prompt, for methods that leave dislikes aside.
    """

    targets: Mapping[str, Keywords]
    alpha_rule: AlphaRule
    seed: int
    negative: Keywords = NO_WORDS

    def __call__(self, example: Example, method: Method, preference: Preference) -> Request:
        """The example's target, in the way that `preference` and `method` ask for.

        Raises:
            PmgError: the method asks for something that isn't known of the user.
        """
        words = _known(preference.words, method.words, "words", preference.user) if method.words else NO_WORDS
        return Request(
            target=self.targets[example.target.concept],
            words=words,
            show_words=bool(method.words) and method.show_words,
            soft=_known(preference.tokens, method.tokens, "tokens", preference.user) if method.tokens else None,
            seed=stable_number("noise", self.seed, example.id) % 2**62,
            negative=preference.negative if method.negative else self.negative,
            alpha=self.alpha_rule(words, preference.history),
        )


def _known(values: Mapping[str, Value], name: str, kind: str, user: str) -> Value:
    """The value called `name`."""
    if name not in values:
        known = ", ".join(sorted(values)) or "nothing"
        raise PmgError(
            f"a method asks for the {kind} '{name}' of user {user}, of whom we know {known}; see conf/method"
        )
    return values[name]
