"""LPIPS (Zhang et al. 2018): perceptual distance to the true images and to the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pmg.evaluation.metric_interface import Input, MetricInfo, References
from pmg.models.vision.perceptual import PerceptualDistance, feature_distance


class PerceptualReferences:
    """LPIPS features of the reference images of B examples, any number of images each.

    The features are computed once for all methods; they take about 0.13 MiB an image of 64 pixels. Each example has at
    least one, `(T_i, 3, H, W)` in [-1, 1].
    """

    def __init__(self, perceptual: PerceptualDistance, images: Sequence[Tensor]) -> None:
        self.perceptual = perceptual
        self.images = torch.cat(list(images))
        counts = torch.tensor([len(group) for group in images])
        self._owner = torch.arange(len(images)).repeat_interleave(counts)
        self._counts, self._start = counts, counts.cumsum(0) - counts
        self._latest: tuple[Tensor, Tensor] | None = None
        with torch.no_grad():
            self._features = perceptual.features(self.images)

    @torch.no_grad()
    def distances(self, images: Tensor) -> Tensor:
        """Returns LPIPS of each image `(B, 3, H, W)` to each of its references, `(B, max T_i)` padded with NaN.

        The latest result is kept: several metrics compare the same images.
        """
        if self._latest is None or self._latest[0] is not images:
            features = [layer[self._owner] for layer in self.perceptual.features(images)]
            flat = feature_distance(features, self._features)
            padded = flat.new_full((len(images), int(self._counts.max())), torch.nan)
            padded[self._owner, torch.arange(len(flat)) - self._start[self._owner]] = flat
            self._latest = images, padded
        return self._latest[1]

    def nearest(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns LPIPS `(B,)` to each image's nearest reference, and that reference `(B, 3, H, W)`."""
        least, index = self.distances(images).nan_to_num(nan=torch.inf).min(dim=1)
        return least, self.images[self._start + index]

    def mean(self, images: Tensor) -> Tensor:
        """Returns the mean LPIPS `(B,)` of each image to its references."""
        return self.distances(images).nanmean(dim=1)


def truths_of(perceptual: PerceptualDistance, references: References) -> PerceptualReferences:
    """Returns the features of the true images, one object for all metrics with the same `perceptual`."""
    return references.once(("truths", perceptual), lambda: PerceptualReferences(perceptual, references.truths))


@dataclass(frozen=True)
class LpipsToTruth:
    """LPIPS with AlexNet to the nearest true image."""

    perceptual: PerceptualDistance

    outputs = (MetricInfo("lpips_truth", "LPIPS to truth", higher_is_better=False, range=(0.0, None)),)
    inputs = (Input.TRUTHS,)

    def __call__(self, images: Tensor, references: References) -> dict[str, Tensor]:
        """See `ImageMetric`."""
        return {"lpips_truth": truths_of(self.perceptual, references).nearest(images)[0]}


@dataclass(frozen=True)
class LpipsToHistory:
    """Mean LPIPS with AlexNet to the images of the history; no value without such images."""

    perceptual: PerceptualDistance

    outputs = (MetricInfo("lpips_history", "LPIPS to history", higher_is_better=False, range=(0.0, None)),)
    inputs = (Input.HISTORIES,)

    def __call__(self, images: Tensor, references: References) -> dict[str, Tensor]:
        """See `ImageMetric`."""
        values = torch.full((len(images),), torch.nan)
        if groups := [group for group in references.histories if len(group)]:
            there = torch.tensor([len(group) > 0 for group in references.histories])
            history = references.once(
                ("histories", self.perceptual), lambda: PerceptualReferences(self.perceptual, groups)
            )
            values[there] = history.mean(images[there])
        return {"lpips_history": values}


@dataclass(frozen=True)
class LpipsVggToTruth:
    """LPIPS with VGG to the nearest true image; papers report either backbone.

    Features of the truths are not kept, since VGG's take 32 MiB an image of 256 pixels.
    """

    perceptual: PerceptualDistance

    outputs = (MetricInfo("lpips_vgg_truth", "LPIPS (VGG) to truth", higher_is_better=False, range=(0.0, None)),)
    inputs = (Input.TRUTHS,)

    @torch.no_grad()
    def __call__(self, images: Tensor, references: References) -> dict[str, Tensor]:
        """See `ImageMetric`."""
        pairs = zip(images, references.truths, strict=True)
        nearest = [self.perceptual(image.expand_as(truth), truth).min() for image, truth in pairs]
        return {"lpips_vgg_truth": torch.stack(nearest)}
