"""Comparison of whole sets of images with the set of true images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pmg.domain import Example, PmgError
from pmg.evaluation.comparison import TRUTH
from pmg.evaluation.metric_interface import SetMetric
from pmg.models.vision.features import ImageFeatures, encode_images
from pmg.progress import track

log = logging.getLogger(__name__)

CHUNK = 32  # examples whose images are in memory at once

MethodImages = Callable[[Sequence[Example]], Tensor]
"""Returns the images `(B, 3, H, W)` in [-1, 1] of B examples."""


def compare_sets(
    metrics: Sequence[SetMetric], examples: Sequence[Example], methods: Mapping[str, MethodImages]
) -> dict[str, dict[str, Any]]:
    """Computes the distance of every method's images from the truth's.

    Images are made or read in chunks, and encoded once by each encoder; vectors of two methods are held at a time. A
    method that has images of some examples only, too few for a metric, is left out there with a warning. Returns
    ``{metric: {method: {"value": …, "n": images}}}``, with ``std`` where a metric has one; empty without metrics.
    PmgError if there are too few truths, or a metric has no encoder.
    """
    by_name = {metric.outputs[0].name: metric for metric in metrics}
    encoders: dict[str, ImageFeatures] = {}
    for name, metric in by_name.items():
        if metric.features is None:
            raise PmgError(f"metrics.{name}.features: not set. Name an encoder of images")
        encoders[name] = metric.features
    found: dict[str, dict[str, Any]] = {name: {} for name in by_name}
    if not metrics:
        return found
    used = list(dict.fromkeys(encoders.values()))
    truth = _encode(used, examples, methods[TRUTH])
    for name, metric in by_name.items():
        metric.check(len(truth[encoders[name]]))
    for method, images in track(methods.items(), "Comparing sets"):
        if method != TRUTH:
            made = _encode(used, examples, images)
            for name, metric in by_name.items():
                vectors, true = made[encoders[name]], truth[encoders[name]]
                try:
                    metric.check(len(vectors))
                except PmgError as error:
                    log.warning("%s of %s is left out: %s", name, method, error)
                    continue
                found[name][method] = {**metric(vectors, true), "n": len(vectors)}
    return found


def _encode(
    encoders: Sequence[ImageFeatures], examples: Sequence[Example], images: MethodImages
) -> dict[ImageFeatures, Tensor]:
    """Returns every encoder's vectors `(N, D)` of a method's images."""
    found: dict[ImageFeatures, list[Tensor]] = {encoder: [] for encoder in encoders}
    for start in range(0, len(examples), CHUNK):
        chunk = images(examples[start : start + CHUNK])
        chunk = chunk[chunk.isfinite().all((1, 2, 3))]  # a method may have no image of some users
        for encoder in encoders:
            found[encoder].append(encode_images(encoder, chunk))
    return {encoder: torch.cat(parts) for encoder, parts in found.items()}
