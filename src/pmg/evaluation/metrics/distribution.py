"""Distances of a method's images, taken as a set, from the set of true images: FID, KID, CMMD."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from pmg.configuration.ranges import Count, Positive, Seed
from pmg.domain import PmgError
from pmg.evaluation.metric_interface import MetricInfo
from pmg.models.vision.features import ImageFeatures

BLOCK = 1024  # rows of a kernel matrix in memory at once
ENOUGH = 2_000  # images that FID needs
SCALE = 1_000  # of CMMD


@dataclass(frozen=True)
class SetDistance:
    """Base of the distances of sets."""

    name: ClassVar[str]  # of the distance, which the encoder's follows
    least: ClassVar[float | None] = None  # its smallest value; None: unbounded
    encoder: str = "features"  # name of the encoder, in the metric's name and title
    features: ImageFeatures | None = None  # encoder of images; None: for vectors that are made elsewhere

    @property
    def outputs(self) -> Sequence[MetricInfo]:
        """See `SetMetric`."""
        name, title = f"{self.name}_{self.encoder}", f"{self.name.upper()} ({self.encoder})"
        return (MetricInfo(name, title, False, range=(self.least, None), digits=4, per_set=True),)


@dataclass(frozen=True)
class Fid(SetDistance):
    """Fréchet distance (Heusel et al. 2017) of Gaussians that are fitted to both sets: 0 for equal ones.

    With few images it depends on their number more than on the images: its bias falls with the number and differs
    between models (Chong & Forsyth 2020), so that `ENOUGH` are required. `allow_few`: fewer are allowed all the same.
    """

    name, least = "fid", 0.0
    allow_few: bool = False

    def check(self, count: int) -> None:
        """See `SetMetric`; PmgError if there are fewer than `ENOUGH` images, or fewer than two."""
        if count < 2 or (count < ENOUGH and not self.allow_few):
            raise PmgError(
                f"FID is biased for few images: there are {count}, and {ENOUGH:,} are needed. KID is unbiased for "
                f"small sets; metrics.fid_{self.encoder}.allow_few=true takes two or more all the same"
            )

    def __call__(self, made: Tensor, truth: Tensor) -> dict[str, float]:
        """See `SetMetric`."""
        metric = FrechetInceptionDistance(feature=_Precomputed(truth.shape[1]))
        metric.update(truth.double(), real=True)
        metric.update(made.double(), real=False)
        return {"value": float(metric.compute())}


@dataclass(frozen=True)
class Kid(SetDistance):
    """Squared MMD with a cubic kernel (Bińkowski et al. 2018): unbiased, so that equal sets may come out below 0.

    The result is the mean of `subsets` drawn subsets, and their deviation is ``std``.
    """

    name = "kid"
    subsets: Count = 100
    subset_size: Count = 100
    seed: Seed = 0

    def check(self, count: int) -> None:
        """See `SetMetric`; PmgError if there are fewer images than a subset has, or a subset is no set."""
        if not 2 <= self.subset_size <= count or self.subsets < 1:
            key = f"metrics.kid_{self.encoder}"
            raise PmgError(
                f"KID draws {self.subsets} subsets of {self.subset_size} from {count} images: set {key}.subset_size "
                f"between 2 and {count}, and {key}.subsets to 1 or more"
            )

    def __call__(self, made: Tensor, truth: Tensor) -> dict[str, float]:
        """See `SetMetric`; with ``std``."""
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # that all features are kept
            torch.manual_seed(self.seed)
            metric = KernelInceptionDistance(
                feature=_Precomputed(truth.shape[1]), subsets=self.subsets, subset_size=self.subset_size
            )
            metric.update(truth.double(), real=True)
            metric.update(made.double(), real=False)
            mean, deviation = metric.compute()
        return {"value": float(mean), "std": float(deviation)}


@dataclass(frozen=True)
class Cmmd(SetDistance):
    """CMMD (Jayasumana et al. 2024): squared MMD of unit vectors of CLIP with a Gaussian kernel, times 1,000.

    This is the unbiased estimate (Gretton et al. 2012, equation 3), as in the paper: equal sets come out below 0. The
    authors' code takes the biased one, larger by 2,000 (1 - k) / N with k the mean kernel of two images: some 0.04 for
    200 images, and next to nothing for the paper's 30,000. `sigma` is the width of the kernel.
    """

    name = "cmmd"
    sigma: Positive = 10.0

    def check(self, count: int) -> None:
        """See `SetMetric`; PmgError if there is a single image."""
        if count < 2:
            key = f"metrics.cmmd_{self.encoder}"
            raise PmgError(f"CMMD compares sets, and there are {count} images; {key}=null leaves it out")

    def __call__(self, made: Tensor, truth: Tensor) -> dict[str, float]:
        """See `SetMetric`."""
        x, y = (normalize(vectors.double(), dim=-1) for vectors in (made, truth))
        n, m = len(x), len(y)
        within = (self._total(x, x) - n) / (n * (n - 1)) + (self._total(y, y) - m) / (m * (m - 1))
        return {"value": SCALE * (within - 2 * self._total(x, y) / (n * m))}

    def _total(self, x: Tensor, y: Tensor) -> float:
        """Returns the sum of the kernel over all pairs of unit vectors, whose squared distance is 2 - 2 cos."""
        return sum(float(((part @ y.T - 1) / self.sigma**2).exp().sum()) for part in x.split(BLOCK))


class _Precomputed(nn.Module):
    """Takes the place of torchmetrics' network: returns vectors that were computed before, once for all metrics."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, vectors: Tensor) -> Tensor:
        """Returns the vectors `(N, D)` as they are."""
        return vectors
