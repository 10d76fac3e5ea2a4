"""Metrics of generated images, one value an image."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from pmg.domain import PmgError
from pmg.models.vision.perceptual import PerceptualDistance, feature_distance

TOLERANCE = 1e-3  # what rounding may add to a range
BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # weights of MS-SSIM's scales, finest first
WINDOW = 11  # pixels a side that SSIM looks at


class Classifier(Protocol):
    """A judge: says which style and which concept an image shows."""

    styles: Sequence[str]
    concepts: Sequence[str]

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Style logits `(B, S)` and concept logits `(B, K)` of images `(B, 3, H, W)` in [-1, 1]."""


def check_images(name: str, images: Tensor, low: float = -1.0, high: float = 1.0) -> None:
    """Refuses what is not a batch of RGB images in the range that a metric needs.

    Raises:
        ValueError: says what came in.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(f"{name} must be float (B, 3, H, W), got {images.dtype} {tuple(images.shape)}")
    if not images.numel():
        raise ValueError(f"{name} holds no image")
    least, most = images.min().item(), images.max().item()
    if not (low - TOLERANCE <= least and most <= high + TOLERANCE):  # written so that NaN fails, too
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}], got [{least:.3g}, {most:.3g}]")


def to_unit(images: Tensor) -> Tensor:
    """Images in [-1, 1] as images in [0, 1]."""
    return images.add(1).div(2).clamp(0, 1)


class References:
    """Reference images of B examples, any number of them each, ready to be compared with many arms.

    Features are computed once and serve every arm; they take about 0.13 MiB an image of 64 pixels, so give
    some dozens of examples at a time.

    Args:
        perceptual: LPIPS.
        images: for each example its references, `(T_i, 3, H, W)` in [-1, 1], none of them empty.

    Raises:
        ValueError: an example has no reference, or an image is out of range.
    """

    def __init__(self, perceptual: PerceptualDistance, images: Sequence[Tensor]) -> None:
        for number, group in enumerate(images):
            check_images(f"the references of example {number}", group)
        self.perceptual = perceptual
        self.images = torch.cat(list(images))
        counts = torch.tensor([len(group) for group in images])
        self._owner = torch.arange(len(images)).repeat_interleave(counts)
        self._start = counts.cumsum(0) - counts
        self._counts = counts
        with torch.no_grad():
            self._features = perceptual.features(self.images)

    @torch.no_grad()
    def distances(self, images: Tensor) -> Tensor:
        """LPIPS of each image `(B, 3, H, W)` to each of its references, padded with NaN to `(B, max T_i)`."""
        check_images("images", images)
        if len(images) != len(self._counts):
            raise ValueError(f"{len(images)} images came for the references of {len(self._counts)} examples")
        features = [layer[self._owner] for layer in self.perceptual.features(images)]
        flat = feature_distance(features, self._features)
        padded = flat.new_full((len(images), int(self._counts.max())), torch.nan)
        padded[self._owner, torch.arange(len(flat)) - self._start[self._owner]] = flat
        return padded

    def nearest(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """LPIPS `(B,)` to each image's nearest reference, and that reference `(B, 3, H, W)`."""
        least, index = self.distances(images).nan_to_num(nan=torch.inf).min(dim=1)
        return least, self.images[self._start + index]

    def mean(self, images: Tensor) -> Tensor:
        """Mean LPIPS `(B,)` of each image to its references."""
        return self.distances(images).nanmean(dim=1)


def ssim(images: Tensor, references: Tensor) -> Tensor:
    """Structural similarity `(B,)` of pairs of images `(B, 3, H, W)` in [0, 1]; 1 for equal ones."""
    check_images("images", images, 0.0, 1.0)
    check_images("references", references, 0.0, 1.0)
    values = structural_similarity_index_measure(images, references, data_range=1.0, reduction="none")
    return values.reshape(-1)  # of a single pair it comes as a scalar in some versions


def scales(side: int) -> int:
    """How many of MS-SSIM's five scales images of `side` pixels have: 3 for 64, 4 for 128, all five from 176.

    The coarsest must still hold a window; torchmetrics asks for a little more.

    Raises:
        PmgError: there is not even one.
    """
    fitting = [n for n in range(1, len(BETAS) + 1) if side >> n - 1 >= WINDOW and side // max(1, n - 1) ** 2 >= WINDOW]
    if not fitting:
        raise PmgError(
            f"MS-SSIM needs images of {WINDOW} pixels, these have {side}; judge.ms_ssim=false leaves it out"
        )
    return fitting[-1]


def ms_ssim(images: Tensor, references: Tensor) -> Tensor:
    """Multi-scale structural similarity `(B,)` (Wang et al. 2003) of pairs `(B, 3, H, W)` in [0, 1]; 1 for equal ones.

    Small images have fewer scales (see `scales`): the weights of those that are left are made to sum to 1 again, so
    that values of images of different sizes are not to be compared.
    """
    check_images("images", images, 0.0, 1.0)
    check_images("references", references, 0.0, 1.0)
    betas = BETAS[: scales(min(images.shape[-2:]))]
    weights = tuple(beta / sum(betas) for beta in betas)
    values = multiscale_structural_similarity_index_measure(
        images, references, data_range=1.0, betas=weights, reduction="none"
    )
    return values.reshape(-1)  # as in `ssim`


def style_accuracy(logits: Tensor, styles: Sequence[str], fitting: Sequence[Collection[str]]) -> Tensor:
    """1 where the judge's style is one of those that fit the user's taste, else 0.

    Args:
        logits: the judge's, `(B, S)`.
        styles: names of the S classes.
        fitting: for each image the styles that fit.

    Returns:
        float32 `(B,)`.

    Raises:
        PmgError: the judge doesn't know a style.
    """
    rows = [[_class(styles, name, "style") for name in names] for names in fitting]
    predicted = logits.argmax(dim=1).tolist()
    return torch.tensor([float(style in row) for style, row in zip(predicted, rows, strict=True)])


def concept_accuracy(logits: Tensor, concepts: Sequence[str], expected: Sequence[str]) -> Tensor:
    """1 where the judge sees the target's concept, else 0; as `style_accuracy`, logits `(B, K)`."""
    wanted = torch.tensor([_class(concepts, name, "concept") for name in expected])
    return (logits.argmax(dim=1).cpu() == wanted).float()


def _class(names: Sequence[str], name: str, what: str) -> int:
    try:
        return list(names).index(name)
    except ValueError:
        raise PmgError(
            f"the judge knows no {what} '{name}'; use the judge that was trained on this catalogue"
        ) from None


@torch.no_grad()
def classify(
    images: Tensor, judge: Classifier, fitting: Sequence[Collection[str]], concepts: Sequence[str]
) -> dict[str, Tensor]:
    """What a judge says of one arm's images.

    Args:
        images: `(B, 3, H, W)` in [-1, 1].
        judge: classifies style and concept.
        fitting: for each image the styles that fit the user's taste.
        concepts: for each image the target's concept.

    Returns:
        Columns of the results by name, float32 `(B,)` each.
    """
    style_logits, concept_logits = judge(images)
    return {
        "style_accuracy": style_accuracy(style_logits, judge.styles, fitting),
        "concept_accuracy": concept_accuracy(concept_logits, judge.concepts, concepts),
    }


@torch.no_grad()
def measure(images: Tensor, truth: References, history: References, multiscale: bool = False) -> dict[str, Tensor]:
    """Distances of one arm's images to what is known to fit.

    Args:
        images: `(B, 3, H, W)` in [-1, 1].
        truth: drawings of the target that fit the user's taste, B examples.
        history: what each user used, B examples.
        multiscale: whether MS-SSIM is measured, too.

    Returns:
        Columns of the results by name, float32 `(B,)` each. SSIM and MS-SSIM are to the truth that is nearest by
        LPIPS.
    """
    distance, nearest = truth.nearest(images)
    pair = to_unit(images), to_unit(nearest)
    found = {"lpips_truth": distance, "lpips_history": history.mean(images), "ssim_truth": ssim(*pair)}
    return found | {"ms_ssim_truth": ms_ssim(*pair)} if multiscale else found
