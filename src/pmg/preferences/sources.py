"""Preference sources: what is used of a user, as keywords or as soft tokens.

A source is a node of ``preference``, in the file of the method that uses it (``conf/method/mine.yaml``)::

    # @package _global_
    preference: {counting: {_target_: pmg.preferences.keyword_sources.CountedKeywords}}
    method: {mine: {_target_: pmg.generation.requests.Method, keywords: counting}}

or in ``conf/preference`` if several use it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor

from pmg.cache import Cache
from pmg.configuration.identity import Values
from pmg.data.dataset import ImageStore
from pmg.domain import Example, Item, Keywords
from pmg.models.diffusion.interfaces import Generator
from pmg.models.diffusion.reference_images import ReferenceImages
from pmg.preferences.extraction import ExtractedPreferences, PreferenceExtractor
from pmg.preferences.keyword_decoding import Decoding

Row = Keywords | Tensor | ReferenceImages


@dataclass(frozen=True)
class Requirements:
    """What has to be there before a source is called.

    Attributes:
        labels: labels of each example; a data set without them is refused.
        decodings: decode the likes while histories are prefilled; `ExtractedPreferences.keywords` has the results.
        dislikes: decode the dislikes, likewise for `ExtractedPreferences.negative`.
        contexts: whether histories are prefilled once for the source; else a context is computed when it is read.
    """

    labels: tuple[str, ...] = ()
    decodings: tuple[Decoding, ...] = ()
    dislikes: tuple[Decoding, ...] = ()
    contexts: bool = False


@dataclass(frozen=True, kw_only=True)
class SourceContext:
    """The users of a generation, and the frozen models that may be used on them.

    Attributes:
        examples: one of each of `U` profiles, as in `extracted.profiles`; without truths, with required labels.
        images: the images of the data set's items.
        captions: of the items in the histories, by id.
        extracted: prefilled histories and decoded keywords.
        extractor: the language model, the scenario and the budget of keywords.
        generator: the frozen generator.
        cache: keeps results that take minutes between runs.
        identity: names the data, the generator and the text encoder in keys of `cache`.
        seed: of the run.
        folders: this machine's folders by their placeholders in a run's config, e.g. ``<assets_dir>``.
        prepared: what sources prepared of all users, by its config, so that sources of one encoder share it.
    """

    examples: Sequence[Example]
    images: ImageStore
    captions: Mapping[str, str]
    extracted: ExtractedPreferences
    extractor: PreferenceExtractor
    generator: Generator
    cache: Cache
    identity: str
    seed: int
    folders: Mapping[str, str]
    prepared: dict[str, Any] = field(default_factory=dict)


class PreferenceSource(ABC):
    """Base of `KeywordSource`, `TokenSource`, `PictureSource` …: by what they give. Only those of methods are called.

    An argument called ``run`` names the folder of a ``pmg-train`` run: in the identity of a generation the values
    that decided that run replace the folder.
    """

    kind: ClassVar[Literal["keywords", "soft tokens", "reference images", "images"]]  # of what it gives

    @property
    def requires(self) -> Requirements:
        """What has to be there before the source is called; nothing by default."""
        return Requirements()

    @property
    def identity(self) -> str:
        """What decides the result beside the arguments, e.g. the checksum of trained weights; nothing by default.

        Read after `check`. Images of a run whose identity differs are never mixed.
        """
        return ""

    def check(self, key: str, config: Values) -> None:  # noqa: B027 - optional
        """Checks, before data and models are loaded, that the source can be used; does nothing by default.

        `key` is the source's, e.g. ``preference.soft``, and `config` has the command's values by dotted key, with
        ``<name>`` for folders of this machine. PmgError names the key and the way out.
        """

    @abstractmethod
    def __call__(self, context: SourceContext) -> Sequence[Row | Callable[[Item], Row]] | Tensor:
        """Returns one row for each of the `U` profiles, in the order of `SourceContext.examples`.

        A row that depends on the target is a function that returns it for a target.
        """


class KeywordSource(PreferenceSource):
    """A source of keywords: a method shows them to the generator, scores candidates by them, or guides away.

    Called, it returns the `Keywords` of each of the `U` profiles.
    """

    kind = "keywords"


class TokenSource(PreferenceSource):
    """A source of soft tokens, which the generator reads behind the encoded text.

    Called, it returns those of all profiles, `(U, n, D)`, D the width of the generator's text encoder.
    """

    kind = "soft tokens"


class PictureSource(PreferenceSource):
    """A source of pictures, which generators that take reference images see beside the condition.

    Called, it returns each profile's pictures as the generator sees them, at least one, see `encode_references`.
    """

    kind = "reference images"


class ImageSource(PreferenceSource):
    """A source of images, e.g. found by a search: a method shows them as they are, or starts its drawings from them.

    Called, it returns of each profile a function of the target that gives the image, `(3, H, W)` in [-1, 1].
    """

    kind = "images"
