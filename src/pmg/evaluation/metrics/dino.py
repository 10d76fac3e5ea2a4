"""Similarity of images in the space of DINO (DINO score: Ruiz et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pmg.evaluation.metric_interface import Input, MetricInfo, References
from pmg.evaluation.metrics.cosines import group_cosines, largest, mean, reference_vectors
from pmg.models.vision.features import ImageFeatures, encode_images


@dataclass(frozen=True)
class DinoSimilarity:
    """Cosines of class tokens: to the nearest true image, and the mean over the history.

    DINO separates things of one kind, which CLIP takes for the same.
    """

    features: ImageFeatures

    outputs = (
        MetricInfo("dino_truth", "DINO to truth", range=(-1.0, 1.0)),
        MetricInfo("dino_history", "DINO to history", range=(-1.0, 1.0)),
    )
    inputs = (Input.TRUTHS, Input.HISTORIES)

    def __call__(self, images: Tensor, references: References) -> dict[str, Tensor]:
        """See `ImageMetric`."""
        vectors = encode_images(self.features, images)
        truths = reference_vectors(self.features, references, Input.TRUTHS)
        histories = reference_vectors(self.features, references, Input.HISTORIES)
        return {
            "dino_truth": largest(group_cosines(vectors, truths)),
            "dino_history": mean(group_cosines(vectors, histories)),
        }
