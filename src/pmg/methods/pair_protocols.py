"""Protocols of published systems: each image against the true one and against the latest liked ones.

Pigeon (WWW 2025) and DRC (MM 2025): LPIPS by VGG, SSIM and MS-SSIM of pytorch-msssim, cosines of OpenCLIP ViT-H/14 and
of DINOv2-large, at 512 pixels, means over pairs. PMG-Bench: LPIPS by VGG, SSIM of torchmetrics and cosines of CLIP
ViT-B/32 at 512 pixels; its SSIM gets pixels from 0 to 1 under a range of 2, which raises every value, and which
`data_range` repeats so that values can be compared with its tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from pmg.configuration.ranges import Count, Positive, Side
from pmg.domain import PmgError
from pmg.evaluation.metric_interface import Input, MetricInfo, References
from pmg.installation import install_extra
from pmg.models.image_passes import fit_size
from pmg.models.vision.features import ImageFeatures, encode_images
from pmg.models.vision.perceptual import PerceptualDistance
from pmg.models.vision.pixels import to_unit

SIDES = {"target": "true image", "history": "history"}


@dataclass(frozen=True)
class PairProtocol:
    """LPIPS, SSIM, MS-SSIM and cosines of pairs: with the first true image, and the mean over the latest liked ones.

    PmgError if pytorch-msssim is needed and not installed.
    """

    name: str  # beginning of the outputs' names
    perceptual: PerceptualDistance
    similarities: Mapping[str, ImageFeatures]  # encoders of images whose cosines are taken, by name
    size: Side = 512  # pixels a side of all images
    history: Count = 5  # most liked images, the latest ones
    data_range: Positive = 1.0  # of SSIM, for pixels from 0 to 1
    # whether SSIM's windows stay inside the picture, as in pytorch-msssim, and MS-SSIM is taken, too; torchmetrics,
    # which is used else, reflects pixels at the border
    inside: bool = True

    inputs = (Input.TRUTHS, Input.HISTORIES)

    def __post_init__(self) -> None:
        if self.inside and find_spec("pytorch_msssim") is None:
            raise PmgError(f"metrics.{self.name} needs pytorch-msssim: {install_extra('protocols')}")

    @property
    def outputs(self) -> Sequence[MetricInfo]:
        """Each measure to the true image and to the history."""
        names = {"lpips": "LPIPS (VGG)", "ssim": "SSIM", **({"ms_ssim": "MS-SSIM"} if self.inside else {})}
        names |= {name: f"{name} cosine" for name in self.similarities}
        return [
            MetricInfo(f"{self.name}_{key}_{side}", f"{self.name}: {title} to {what}", higher_is_better=key != "lpips")
            for key, title in names.items()
            for side, what in SIDES.items()
        ]

    @torch.no_grad()
    def __call__(self, images: Tensor, references: References) -> dict[str, Tensor]:
        """See `ImageMetric`; no value to the history of users without images."""
        found = {info.name: torch.full((len(images),), torch.nan) for info in self.outputs}
        for row, image in enumerate(images):
            others = {"target": references.truths[row][:1], "history": references.histories[row][-self.history :]}
            for side, group in others.items():
                if len(group):
                    for key, values in self._compare(image, group).items():
                        found[f"{self.name}_{key}_{side}"][row] = values.mean()
        return found

    def _compare(self, image: Tensor, others: Tensor) -> dict[str, Tensor]:
        """Returns each measure of an image `(3, H, W)` with others `(N, 3, H, W)`, `(N,)`."""
        one, many = fit_size(image[None], self.size).clamp(-1, 1), fit_size(others, self.size).clamp(-1, 1)
        pairs = one.expand_as(many), many
        units = to_unit(pairs[0]), to_unit(pairs[1])
        found = {"lpips": self.perceptual(*pairs).flatten(), **self._structure(*units)}
        for name, features in self.similarities.items():
            found[name] = cosine_similarity(encode_images(features, one), encode_images(features, many))
        return found

    def _structure(self, images: Tensor, others: Tensor) -> dict[str, Tensor]:
        """Returns SSIM, and MS-SSIM where it is taken, of pairs `(N, 3, H, W)` in [0, 1], `(N,)` each."""
        if not self.inside:
            values = structural_similarity_index_measure(images, others, data_range=self.data_range, reduction="none")
            return {"ssim": values.reshape(-1)}
        from pytorch_msssim import ms_ssim, ssim

        options = {"data_range": self.data_range, "size_average": False}
        return {"ssim": ssim(images, others, **options), "ms_ssim": ms_ssim(images, others, **options)}
