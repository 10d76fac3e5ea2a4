"""Requests for one image each, from an example, a method and a user's preference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from pmg.domain import Example, Keywords
from pmg.generation.alpha import AlphaRule
from pmg.models.diffusion.reference_images import ReferenceImages
from pmg.models.vision.scorer import Taste
from pmg.preferences.keywords import NO_WORDS
from pmg.seeding import stable_number


@dataclass(frozen=True)
class Method:
    """What a method uses of a user; each source is named by its key in the config group ``preference``.

    Attributes:
        keywords: source of the keywords that d_p compares images with; empty: none.
        show_keywords: whether the denoiser sees the keywords.
        soft_tokens: source of the soft tokens that the denoiser sees; empty: none.
        negative: source of the keywords that images are guided away from; empty: the scenario's negative prompt.
        references: source of the reference images that the denoiser sees; empty: none.
        taste: source of the taste that d_p compares images with, in place of keywords; empty: none.
        mismatch: whether it is also run with another user's preference, as a control.
    """

    keywords: str = ""
    show_keywords: bool = True
    soft_tokens: str = ""
    negative: str = ""
    references: str = ""
    taste: str = ""
    mismatch: bool = True

    @property
    def personal(self) -> bool:
        """Whether the user matters at all."""
        return bool(self.keywords or self.soft_tokens or self.references or self.taste)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the preference sources in use."""
        named = (self.keywords, self.soft_tokens, self.negative, self.references, self.taste)
        return tuple(filter(None, named))


@dataclass(frozen=True)
class Preference:
    """The preference of one user, by the names of its sources.

    Attributes:
        user: the user's id.
        keywords: keywords, e.g. of the source ``keywords``.
        soft_tokens: soft tokens `(n, D)`, e.g. of the source ``soft``.
        history: number of the user's interactions.
        references: reference images, e.g. of the source ``references``.
        tastes: pictures that the scorer compares with, e.g. of the source ``taste``.
    """

    user: str
    keywords: Mapping[str, Keywords]
    soft_tokens: Mapping[str, Tensor]
    history: int = 0
    references: Mapping[str, ReferenceImages] = field(default_factory=dict)
    tastes: Mapping[str, Taste] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """One image to make.

    Attributes:
        target: target keywords.
        keywords: preference keywords, which d_p compares the image with; empty for none.
        show_keywords: whether the denoiser sees `keywords`.
        soft_tokens: soft tokens `(n, D)`, or None.
        seed: seed of the noise.
        negative: negative keywords; empty for none.
        alpha: share of the preference score in z, in [0, 1]; see `share`.
        references: reference images, or None.
        taste: what d_p compares the image with in place of `keywords`, or None.
    """

    target: Keywords
    keywords: Keywords
    show_keywords: bool
    soft_tokens: Tensor | None
    seed: int
    negative: Keywords = field(default=NO_WORDS, kw_only=True)
    alpha: float = field(default=0.5, kw_only=True)
    references: ReferenceImages | None = field(default=None, kw_only=True)
    taste: Taste | None = field(default=None, kw_only=True)

    @property
    def has_preference_score(self) -> bool:
        """Whether there is something that d_p compares the image with."""
        return self.taste is not None or bool(self.keywords.words)

    @property
    def share(self) -> float:
        """Effective alpha: 0 without a preference score."""
        return self.alpha if self.has_preference_score else 0.0


@dataclass(frozen=True)
class RequestBuilder:
    """Makes requests.

    Attributes:
        targets: target keywords by concept.
        alpha_rule: each user's share of the preference score.
        seed: of the noise, which depends on the example and this alone: methods are compared from the same noise.
        negative: the scenario's negative prompt, for methods without a source of negative keywords.
    """

    targets: Mapping[str, Keywords]
    alpha_rule: AlphaRule
    seed: int
    negative: Keywords = NO_WORDS

    def __call__(self, example: Example, method: Method, preference: Preference) -> Request:
        """Returns the request for an example's target by `method`, with what its sources gave for the user."""
        keywords = preference.keywords[method.keywords] if method.keywords else NO_WORDS
        return Request(
            target=self.targets[example.target.concept],
            keywords=keywords,
            show_keywords=bool(method.keywords) and method.show_keywords,
            soft_tokens=preference.soft_tokens[method.soft_tokens] if method.soft_tokens else None,
            seed=stable_number("noise", self.seed, example.id) % 2**62,
            negative=preference.keywords[method.negative] if method.negative else self.negative,
            alpha=self.alpha_rule(keywords, preference.history),
            references=preference.references[method.references] if method.references else None,
            taste=preference.tastes[method.taste] if method.taste else None,
        )
