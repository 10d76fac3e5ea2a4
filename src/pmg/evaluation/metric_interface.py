"""The interface of a metric: what it measures, what it compares images with, and how it is called.

A metric of single images is an object with `outputs`, `inputs` and a call::

    class Brightness:
        outputs = (MetricInfo("brightness", "brightness", range=(-1.0, 1.0)),)
        inputs = ()

        def __call__(self, images: Tensor, references: References) -> dict[str, Tensor]:
            return {"brightness": images.mean((1, 2, 3))}

`docs/extending.md` shows how such a class is added to an evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeVar, cast

from torch import Tensor

from pmg.domain import Example, PmgError
from pmg.models.vision.features import ImageFeatures

Value = TypeVar("Value")


@dataclass(frozen=True)
class MetricInfo:
    """Description of one value that a metric computes; `results.json` holds it, so that reports need no metric.

    Attributes:
        name: of the column in rows and results.
        title: in tables and figures.
        higher_is_better: the direction.
        range: smallest and largest value; None: unbounded.
        aspect: ``accuracy`` (does the image show the target?), ``preference`` (does it fit the user?) or empty; the
            first of each aspect span the plane of a report's trade-off figure, and are in the table on the console.
        selects: whether the score selected the image, so that it is no independent evidence.
        digits: decimal places in tables.
        per_set: whether it is one value of a whole set of images.
    """

    name: str
    title: str
    higher_is_better: bool = True
    range: tuple[float | None, float | None] = (None, None)
    aspect: str = ""
    selects: bool = False
    digits: int = 3
    per_set: bool = False


def describe(infos: Sequence[MetricInfo]) -> dict[str, dict[str, Any]]:
    """Returns the section ``metrics`` of ``results.json``: descriptions by name, in the order of the columns."""
    described = [asdict(info) for info in infos]
    return {each.pop("name"): each for each in described}


def read_infos(section: Mapping[str, Mapping[str, Any]]) -> list[MetricInfo]:
    """Returns the descriptions that `describe` wrote; keys of later versions are left out."""
    found = []
    for name, values in section.items():
        kept = {key: value for key, value in values.items() if key in MetricInfo.__dataclass_fields__}
        low, high = kept.pop("range", (None, None))
        found.append(MetricInfo(name, range=(low, high), **kept))
    return found


class Input(StrEnum):
    """What a metric compares images with; the evaluation prepares those that any metric declares."""

    TRUTHS = "truths"  # images of the target in the user's taste
    HISTORIES = "histories"  # images of the items that the user liked
    TARGET_WORDS = "target_words"  # what the image should show
    PREFERENCE_WORDS = "preference_words"  # the user's keywords


@dataclass(frozen=True)
class References:
    """What the images of B examples are compared with. Inputs that no metric declares are empty.

    Attributes:
        examples: the B examples.
        truths: `Input.TRUTHS` of each example, `(T_i, 3, H, W)` in [-1, 1], T_i >= 1.
        histories: `Input.HISTORIES` of each example, `(N_i, 3, H, W)` in [-1, 1]; N_i is 0
            for users who liked no image, as in conversations.
        target_words: `Input.TARGET_WORDS` of each example.
        preference_words: `Input.PREFERENCE_WORDS` of each example, whichever user's preference its image was made
            with; empty where no method was given words.
    """

    examples: Sequence[Example]
    truths: Sequence[Tensor] = ()
    histories: Sequence[Tensor] = ()
    target_words: Sequence[tuple[str, ...]] = ()
    preference_words: Sequence[tuple[str, ...]] = ()
    _computed: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """Returns `compute()`, called once for all methods and all metrics that use the same key."""
        if key not in self._computed:
            self._computed[key] = compute()
        return cast(Value, self._computed[key])


class ImageMetric(Protocol):
    """A metric with a value for each image."""

    @property
    def outputs(self) -> Sequence[MetricInfo]:
        """The values that it computes, each a column of the results."""

    @property
    def inputs(self) -> Collection[Input]:
        """What `References` must hold."""

    def __call__(self, images: Tensor, references: References) -> Mapping[str, Tensor]:
        """Computes the outputs of one method's images, `(B, 3, H, W)` in [-1, 1], on the CPU.

        Returns a float tensor `(B,)` by the name of each output, NaN where an image has no value.
        """


class SetMetric(Protocol):
    """A metric that compares a method's images with the true ones as two sets of vectors."""

    @property
    def outputs(self) -> Sequence[MetricInfo]:
        """The one value that it computes, with ``per_set``."""

    @property
    def features(self) -> ImageFeatures | None:
        """The encoder whose vectors are compared; metrics with the same one share its passes."""

    def check(self, count: int) -> None:
        """Refuses sets of `count` images that are too small, by PmgError with how many are needed."""

    def __call__(self, made: Tensor, truth: Tensor) -> dict[str, float]:
        """Compares vectors `(N, D)` and `(M, D)`; returns ``value``, and its deviation ``std`` where there is one."""


@dataclass(frozen=True)
class Metrics:
    """Metrics with a value for each image, and for a whole set; PmgError if two outputs have one name."""

    per_image: Sequence[ImageMetric] = ()
    per_set: Sequence[SetMetric] = ()

    def __post_init__(self) -> None:
        names = [info.name for info in self.outputs]
        if twice := [name for name in names if names.count(name) > 1]:
            raise PmgError(f"metrics: two of them are called '{twice[0]}'. Leave one out, or give it another name")

    @property
    def outputs(self) -> list[MetricInfo]:
        """Descriptions of all values."""
        metrics: list[ImageMetric | SetMetric] = [*self.per_image, *self.per_set]
        return [info for metric in metrics for info in metric.outputs]

    @property
    def inputs(self) -> set[Input]:
        """What the metrics of single images compare with."""
        return {each for metric in self.per_image for each in metric.inputs}

    @classmethod
    def of(cls, metrics: Sequence[ImageMetric | SetMetric]) -> Metrics:
        """Sorts metrics by whether their values are of images or of sets."""
        sets = [metric for metric in metrics if all(info.per_set for info in metric.outputs)]
        images = [metric for metric in metrics if not all(info.per_set for info in metric.outputs)]
        return cls(cast(list[ImageMetric], images), cast(list[SetMetric], sets))
