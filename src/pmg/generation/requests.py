"""Requests for one image each, from an example, a method and a user's preference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from functools import cached_property, partial
from typing import Any

from torch import Tensor

from pmg.cache import Cache, hash_tensor
from pmg.configuration.identity import KINDS
from pmg.configuration.ranges import Strength
from pmg.domain import Example, Item, Keywords, PmgError
from pmg.generation.alpha import AlphaRule
from pmg.generation.guidance import Scales
from pmg.models.diffusion.diffusers_denoiser import DiffusersDenoiser
from pmg.models.diffusion.reference_images import ReferenceImages
from pmg.preferences.keywords import NO_WORDS
from pmg.records.storage import Candidate
from pmg.seeding import stable_number


@dataclass(frozen=True)
class Method:
    """What a method uses of a user; each source is named by its key in the config group ``preference``.

    PmgError if there is a `start` without a `strength`, the other way round, or beside an `image`; or a
    `start_denoiser` without a `start`.
    """

    keywords: str = ""  # source of keywords; empty: none, as below
    compared: str = ""  # source of the keywords that d_p compares images with; empty: those of `keywords`
    show_keywords: bool = True  # whether the denoiser sees the keywords
    soft_tokens: str = ""  # source of the soft tokens that the denoiser sees
    negative: str = ""  # source of keywords that images are guided away from; empty: the scenario's negative prompt
    references: str = ""  # source of the reference images that the denoiser sees
    image: str = ""  # source of images that are used in place of generated ones
    start: str = ""  # source of images that sampling starts from in place of noise alone
    # share of the solver's time that is left from there, see `Start`; set with `start`, and not without
    strength: Strength | None = None
    # builds `denoiser`, which takes the place of the generator's there; None: none does
    start_denoiser: Callable[[], DiffusersDenoiser] | None = None
    mismatch: bool = True  # whether it is also run with another user's preference, as a control

    def __post_init__(self) -> None:
        if bool(self.start) != (self.strength is not None) or (self.start and self.image):
            raise PmgError(
                f"a method has a start with its strength, e.g. start: retrieve, strength: 0.5, and then no image; or "
                f"neither: start={self.start!r}, strength={self.strength}, image={self.image!r}"
            )
        if self.start_denoiser and not self.start:
            raise PmgError("a method with a start_denoiser has a start, e.g. start: retrieve, strength: 0.5")

    @cached_property
    def denoiser(self) -> DiffusersDenoiser | None:
        """The denoiser of its starts; None: the generator's."""
        return self.start_denoiser() if self.start_denoiser else None

    @cached_property
    def key(self) -> str:
        """A hash of its values, and of the weights of `denoiser`."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "start_denoiser"}
        if self.denoiser is not None:
            values["start_denoiser"] = {name: hash_tensor(one) for name, one in self.denoiser.state_dict().items()}
        return Cache.key(**values)

    @property
    def personal(self) -> bool:
        """Whether the user matters at all."""
        return bool(self.sources)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the preference sources in use."""
        return tuple(filter(None, (getattr(self, argument) for argument in KINDS)))


@dataclass(frozen=True)
class Preference:
    """The preference of one user."""

    user: str  # id
    rows: Mapping[str, Any]  # by source, what it gave for the user, or a function that returns that for a target
    history: int = 0  # number of interactions

    def read(self, source: str, target: Item) -> Any:
        """Returns what a source gives for a target; None: no source is named."""
        row = self.rows[source] if source else None
        return row(target) if callable(row) else row


@dataclass(frozen=True)
class Request:
    """One image to make."""

    target: Keywords
    keywords: Keywords  # of the preference; empty for none
    show_keywords: bool  # whether the denoiser sees `keywords`
    soft_tokens: Tensor | None  # `(n, D)`
    seed: int  # of the noise
    _: KW_ONLY
    compared: Keywords | None = None  # what d_p compares the image with; None: `keywords`
    negative: Keywords = NO_WORDS
    alpha: float = 0.5  # share of the preference score in z, in [0, 1]; see `share`
    references: ReferenceImages | None = None
    image: Tensor | None = None  # `(3, H, W)` in [-1, 1], in place of a generated one
    start: Tensor | None = None  # `(3, H, W)` in [-1, 1] that sampling starts from
    strength: float = 1.0  # share of the solver's time that is left from `start`, in (0, 1]; without it no effect
    start_denoiser: DiffusersDenoiser | None = None  # takes the place of the generator's from `start` on

    @property
    def wanted(self) -> Keywords:
        """What d_p compares the image with; no words for nothing."""
        return self.keywords if self.compared is None else self.compared

    @property
    def has_preference_score(self) -> bool:
        """Whether there is something that d_p compares the image with."""
        return bool(self.wanted.words)

    @property
    def share(self) -> float:
        """Effective alpha: 0 without a preference score."""
        return self.alpha if self.has_preference_score else 0.0


@dataclass(frozen=True)
class RequestBuilder:
    """Makes requests."""

    targets: Mapping[str, Keywords]  # target keywords by concept
    alpha_rule: AlphaRule  # each user's share of the preference score
    seed: int  # of the noise, which depends on the example and this alone: methods are compared from the same noise
    negative: Keywords = NO_WORDS  # the scenario's negative prompt, for methods without a source of negative keywords

    def __call__(self, example: Example, method: Method, preference: Preference) -> Request:
        """Returns the request for an example's target by `method`, with what its sources gave for the user."""
        read = partial(preference.read, target=example.target)
        keywords, compared = read(method.keywords) or NO_WORDS, read(method.compared)
        return Request(
            target=self.targets[example.target.concept],
            keywords=keywords,
            show_keywords=bool(method.keywords) and method.show_keywords,
            soft_tokens=read(method.soft_tokens),
            seed=stable_number("noise", self.seed, example.id) % 2**62,
            negative=read(method.negative) or self.negative,
            compared=compared,
            alpha=self.alpha_rule(keywords if compared is None else compared, preference.history),
            references=read(method.references),
            image=read(method.image),
            start=read(method.start),
            strength=method.strength or 1.0,
            start_denoiser=method.denoiser,
        )


def record_image(request: Request, picked: int, candidates: Sequence[Candidate], scales: Scales) -> dict[str, Any]:
    """Returns how an image was made, as fields of a `Record`, without words that had no effect on it."""
    shown = request.keywords if request.show_keywords else NO_WORDS
    avoided = request.negative if scales.negative else NO_WORDS
    return {
        "target_keywords": request.target.words,
        "preference_keywords": shown.words,
        "negative_keywords": avoided.words,
        "dropped_keywords": (*request.target.dropped, *shown.dropped, *avoided.dropped),
        "note": request.keywords.note,
        "alpha": request.share,
        "picked": picked,
        "candidates": tuple(candidates),
    }
