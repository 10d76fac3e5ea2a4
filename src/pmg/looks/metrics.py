"""Style, finish and concept of pictures of looks, by the judge of looks."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from pmg.cache import open_cache
from pmg.configuration.ranges import NotNegative
from pmg.domain import Example
from pmg.evaluation.metric_interface import Input, MetricInfo, References
from pmg.looks.dataset import FinishedImages
from pmg.looks.drawings import LookData
from pmg.looks.judging import LookJudging, StyleReader
from pmg.looks.models.judge import LookJudge
from pmg.looks.targets import LookTarget
from pmg.seeding import stable_number


class LookAccuracy:
    """Whether the judge picks the user's look among ten and finds the concept; distance of the finish to the look's.

    Users of several looks have several truths: the best value counts.

    Args:
        judge: never the model that selects.
        data: the drawings; examples are of this data set, of all topics or of some.
        spread: of the finishes of the pictures that show a candidate look.
        cache_dir: folder or URL of what the judge read of these pictures, which are the same for each method; None:
            they are read anew.
    """

    outputs = (
        MetricInfo("style_accuracy", "style accuracy", range=(0.0, 1.0), aspect="preference"),
        MetricInfo("concept_accuracy", "concept accuracy", range=(0.0, 1.0), aspect="accuracy"),
        MetricInfo("finish_error", "finish error", higher_is_better=False, range=(0.0, None)),
    )
    inputs: Collection[Input] = ()

    def __init__(
        self, judge: LookJudge, data: LookData, spread: NotNegative = 0.02, cache_dir: str | None = None
    ) -> None:
        self.read_style = StyleReader(judge, None if cache_dir is None else open_cache(cache_dir))
        self.data, self.spread = data, spread
        self.images = FinishedImages(data.drawings)

    def __call__(self, images: Tensor, references: References) -> dict[str, Tensor]:
        """See `ImageMetric`."""
        judging, owners = references.once(("looks", id(self)), lambda: self._judging(references.examples))
        values = judging.measure(images[owners])
        kept = torch.full((len(images),), float("nan"))
        reductions = {"style_accuracy": "amax", "concept_accuracy": "amax", "finish_error": "amin"}
        return {
            name: kept.scatter_reduce(0, owners, values[name], reduce, include_self=False)
            for name, reduce in reductions.items()
        }

    def _judging(self, examples: Sequence[Example]) -> tuple[LookJudging, Tensor]:
        """Returns the judging of each truth of the examples, and the example that each belongs to, int64 `(T,)`."""
        truths = [(number, item) for number, example in enumerate(examples) for item in example.truth]
        pictures = [self.images.picture(item) for _, item in truths]
        targets = [
            LookTarget(picture.row, picture.finish, "", (), stable_number("look metric", item.id) % 2**31)
            for picture, (_, item) in zip(pictures, truths, strict=True)
        ]
        owners = torch.tensor([number for number, _ in truths])
        return LookJudging(self.data, self.read_style, targets, self.spread), owners
