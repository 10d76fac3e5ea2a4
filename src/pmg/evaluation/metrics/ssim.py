"""Structural similarity, at one scale (Wang et al. 2004) and at several (Wang et al. 2003)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from pmg.domain import PmgError
from pmg.evaluation.metric_interface import Input, MetricInfo, References
from pmg.evaluation.metrics.lpips import truths_of
from pmg.models.vision.perceptual import PerceptualDistance
from pmg.models.vision.pixels import to_unit

BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # weights of MS-SSIM's scales, finest first
WINDOW = 11  # pixels a side of SSIM's window


def ssim(images: Tensor, references: Tensor) -> Tensor:
    """Returns the structural similarity `(B,)` of pairs of images `(B, 3, H, W)` in [0, 1]; 1 for equal ones."""
    values: Tensor = structural_similarity_index_measure(images, references, data_range=1.0, reduction="none")
    return values.reshape(-1)  # of a single pair it comes as a scalar in some versions


def count_scales(side: int) -> int:
    """Returns how many of MS-SSIM's five scales images of `side` pixels have: 3 for 64, 4 for 128, all five from 176.

    The coarsest must still hold a window; torchmetrics needs a little more. PmgError if there is not even one.
    """
    fitting = [n for n in range(1, len(BETAS) + 1) if side >> n - 1 >= WINDOW and side // max(1, n - 1) ** 2 >= WINDOW]
    if not fitting:
        raise PmgError(
            f"MS-SSIM needs images of {WINDOW} pixels, these have {side}; metrics.ms_ssim_truth=null leaves it out"
        )
    return fitting[-1]


def ms_ssim(images: Tensor, references: Tensor) -> Tensor:
    """Returns the multi-scale structural similarity `(B,)` of pairs `(B, 3, H, W)` in [0, 1]; 1 for equal ones.

    Small images have fewer scales (see `count_scales`): the weights of those that are left are made to sum to 1 again,
    so that values of images of different sizes can't be compared. PmgError if they are smaller than a window.
    """
    betas = BETAS[: count_scales(min(images.shape[-2:]))]
    weights = tuple(beta / sum(betas) for beta in betas)
    values: Tensor = multiscale_structural_similarity_index_measure(
        images, references, data_range=1.0, betas=weights, reduction="none"
    )
    return values.reshape(-1)  # as in `ssim`


@dataclass(frozen=True)
class SsimToTruth:
    """SSIM to the true image that is nearest by LPIPS."""

    perceptual: PerceptualDistance

    outputs = (MetricInfo("ssim_truth", "SSIM to truth", range=(-1.0, 1.0)),)
    inputs = (Input.TRUTHS,)
    similarity = staticmethod(ssim)

    @torch.no_grad()
    def __call__(self, images: Tensor, references: References) -> dict[str, Tensor]:
        """See `ImageMetric`."""
        _, nearest = truths_of(self.perceptual, references).nearest(images)
        return {self.outputs[0].name: self.similarity(to_unit(images), to_unit(nearest))}


class MsSsimToTruth(SsimToTruth):
    """MS-SSIM to the true image that is nearest by LPIPS; PmgError if the images are smaller than a window."""

    outputs = (MetricInfo("ms_ssim_truth", "MS-SSIM to truth", range=(0.0, 1.0)),)
    similarity = staticmethod(ms_ssim)
