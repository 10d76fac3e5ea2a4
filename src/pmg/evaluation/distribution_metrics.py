"""Metrics of whole sets of images: how far a method's images, taken together, lie from the truths."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn.functional import normalize
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from pmg.configuration.ranges import Count, Positive, Seed
from pmg.domain import Example, PmgError
from pmg.models.vision.features import ImageFeatures, encode_images

CHUNK = 32  # examples whose images are in memory at once
BLOCK = 1024  # rows of a kernel matrix in memory at once
ENOUGH = 2_000  # images that FID needs
SCALE = 1_000  # of CMMD

Gallery = Callable[[Sequence[Example]], Tensor]  # examples to their images `(B, 3, H, W)` in [-1, 1]


class SetMetric(Protocol):
    """A distance of two sets of vectors.

    Attributes:
        features: names of the encoders whose vectors it compares; none: it is not measured.
    """

    features: Sequence[str]

    def check(self, count: int) -> None:
        """Refuses sets of `count` images that are too small, before anything is computed."""

    def __call__(self, made: Tensor, truth: Tensor) -> dict[str, float]:
        """The distance of vectors `(N, D)` and `(M, D)`: ``value``, and what else is known of it."""


@dataclass(frozen=True)
class Fid:
    """Fréchet distance (Heusel et al. 2017) of Gaussians that are fitted to both sets: 0 for equal ones.

    With few images it says more about their number than about the pictures: its bias falls with the number and
    differs between models (Chong & Forsyth 2020), so that `ENOUGH` are asked for.

    Attributes:
        features: see `SetMetric`.
        allow_few: whether fewer are taken all the same.
    """

    features: Sequence[str] = ()
    allow_few: bool = False

    def check(self, count: int) -> None:
        """See `SetMetric`.

        Raises:
            PmgError: there are fewer than `ENOUGH` images, or fewer than two.
        """
        if count < 2 or (count < ENOUGH and not self.allow_few):
            raise PmgError(
                f"FID is biased for few images: there are {count}, and {ENOUGH:,} are needed; judge.sets.kid is "
                "unbiased for small sets, judge.sets.fid.allow_few=true takes two or more all the same"
            )

    def __call__(self, made: Tensor, truth: Tensor) -> dict[str, float]:
        """See `SetMetric`."""
        metric = FrechetInceptionDistance(feature=_Given(truth.shape[1]))
        metric.update(truth.double(), real=True)
        metric.update(made.double(), real=False)
        return {"value": float(metric.compute())}


@dataclass(frozen=True)
class Kid:
    """Squared MMD with a cubic kernel (Bińkowski et al. 2018): unbiased, so that equal sets may come out below 0.

    Attributes:
        features: see `SetMetric`.
        subsets: how many subsets are drawn; the result is their mean, and their deviation is ``std``.
        subset_size: images of a subset.
        seed: of the draw.
    """

    features: Sequence[str] = ()
    subsets: Count = 100
    subset_size: Count = 100
    seed: Seed = 0

    def check(self, count: int) -> None:
        """See `SetMetric`.

        Raises:
            PmgError: there are fewer images than a subset has, or a subset is no set.
        """
        if not 2 <= self.subset_size <= count or self.subsets < 1:
            raise PmgError(
                f"KID draws {self.subsets} subsets of {self.subset_size} from {count} images: set "
                f"judge.sets.kid.subset_size between 2 and {count}, and judge.sets.kid.subsets to 1 or more"
            )

    def __call__(self, made: Tensor, truth: Tensor) -> dict[str, float]:
        """See `SetMetric`; with ``std``."""
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # that all features are kept
            torch.manual_seed(self.seed)
            metric = KernelInceptionDistance(
                feature=_Given(truth.shape[1]), subsets=self.subsets, subset_size=self.subset_size
            )
            metric.update(truth.double(), real=True)
            metric.update(made.double(), real=False)
            mean, deviation = metric.compute()
        return {"value": float(mean), "std": float(deviation)}


@dataclass(frozen=True)
class Cmmd:
    """CMMD (Jayasumana et al. 2024): squared MMD of unit vectors of CLIP with a Gaussian kernel, times 1,000.

    This is the unbiased estimate (Gretton et al. 2012, equation 3), as in the paper: equal sets come out below 0. The
    authors' code takes the biased one, larger by 2,000 (1 - k) / N with k the mean kernel of two images: some 0.04
    for 200 images, and next to nothing for the paper's 30,000.

    Attributes:
        features: see `SetMetric`.
        sigma: width of the kernel.
    """

    features: Sequence[str] = ()
    sigma: Positive = 10.0

    def check(self, count: int) -> None:
        """See `SetMetric`.

        Raises:
            PmgError: there is a single image.
        """
        if count < 2:
            raise PmgError(f"CMMD compares sets, and there are {count} images; judge.sets.cmmd=null leaves it out")

    def __call__(self, made: Tensor, truth: Tensor) -> dict[str, float]:
        """See `SetMetric`."""
        x, y = (normalize(vectors.double(), dim=-1) for vectors in (made, truth))
        n, m = len(x), len(y)
        within = (self._total(x, x) - n) / (n * (n - 1)) + (self._total(y, y) - m) / (m * (m - 1))
        return {"value": SCALE * (within - 2 * self._total(x, y) / (n * m))}

    def _total(self, x: Tensor, y: Tensor) -> float:
        """Sum of the kernel over all pairs of unit vectors, whose squared distance is 2 - 2 cos."""
        return sum(float(((part @ y.T - 1) / self.sigma**2).exp().sum()) for part in x.split(BLOCK))


class _Given(nn.Module):
    """What torchmetrics takes for a network: it hands on vectors that were made before, once for all metrics."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors


def measure_sets(
    metrics: Mapping[str, SetMetric],
    features: Mapping[str, ImageFeatures],
    examples: Sequence[Example],
    galleries: Mapping[str, Gallery],
    reference: str = "truth",
) -> dict[str, dict[str, Any]]:
    """Distances of every gallery to the reference.

    Images are made or read in chunks, and seen once by each encoder; vectors of two galleries are held at a time.

    Args:
        metrics: by name, which becomes a part of the results' names.
        features: encoders by name.
        examples: an image of each belongs to every set.
        galleries: by method, with the reference among them.
        reference: what all others are compared with.

    Returns:
        ``{metric_encoder: {method: {"value": …, "n": images}}}``, KID with its ``std``; empty without metrics.

    Raises:
        PmgError: a set is too small.
    """
    pairs = [(f"{name}_{encoder}", encoder, metric) for name, metric in metrics.items() for encoder in metric.features]
    used = {encoder: features[encoder] for _, encoder, _ in pairs}
    for _, _, metric in pairs:
        metric.check(len(examples))
    found: dict[str, dict[str, Any]] = {name: {} for name, _, _ in pairs}
    if not pairs:
        return found
    truth = _vectors(used, examples, galleries[reference])
    for method, gallery in track(galleries.items(), description="Judging sets"):
        if method != reference:
            made = _vectors(used, examples, gallery)
            for name, encoder, metric in pairs:
                found[name][method] = {**metric(made[encoder], truth[encoder]), "n": len(examples)}
    return found


def _vectors(
    features: Mapping[str, ImageFeatures], examples: Sequence[Example], gallery: Gallery
) -> dict[str, Tensor]:
    """Every encoder's vectors `(N, D)` of a gallery's images."""
    found: dict[str, list[Tensor]] = {name: [] for name in features}
    for start in range(0, len(examples), CHUNK):
        images = gallery(examples[start : start + CHUNK])
        for name, encoder in features.items():
            found[name].append(encode_images(encoder, images))
    return {name: torch.cat(parts) for name, parts in found.items()}
