"""Metrics as `torchmetrics.Metric`, for training loops and code that expect these."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from pmg.evaluation.metric_interface import ImageMetric, References, SetMetric


class MeanImageMetric(Metric):
    """Means of an `ImageMetric` over all images, NaN left out; sums are synchronised over processes.

    Example::

        metric = MeanImageMetric(LpipsToTruth(PerceptualDistance.from_folder("assets/lpips")))
        metric.update(images, References(examples, truths=truths))
        metric.compute()  # {"lpips_truth": tensor(…)}

    Args:
        metric: of single images.
    """

    is_differentiable = False
    full_state_update = False
    totals: Tensor
    counts: Tensor

    def __init__(self, metric: ImageMetric, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.metric = metric
        self.names = [info.name for info in metric.outputs]
        for state in ("totals", "counts"):
            self.add_state(state, torch.zeros(len(self.names), dtype=torch.float64), dist_reduce_fx="sum")

    @property
    def higher_is_better(self) -> bool:
        """The direction of the first output."""
        return self.metric.outputs[0].higher_is_better

    def update(self, images: Tensor, references: References) -> None:
        """Adds images `(B, 3, H, W)` in [-1, 1] and what they are compared with."""
        found = self.metric(images, references)
        values = torch.stack([found[name] for name in self.names]).double().to(self.totals.device)
        self.totals += values.nansum(dim=1)
        self.counts += (~values.isnan()).sum(dim=1)

    def compute(self) -> dict[str, Tensor]:
        """Returns the mean of each output by name; NaN where no image has a value."""
        return dict(zip(self.names, (self.totals / self.counts).float(), strict=True))


class ImageSetMetric(Metric):
    """A `SetMetric` of images that come in batches, as torchmetrics' own FID.

    Args:
        metric: of sets, with its encoder.

    Raises:
        ValueError: the metric has no encoder.
    """

    is_differentiable = False
    full_state_update = False
    made: list[Tensor]
    truth: list[Tensor]

    def __init__(self, metric: SetMetric, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if metric.features is None:
            raise ValueError("features: None. Give the metric an encoder of images")
        self.metric, self.encoder = metric, metric.features
        for state in ("made", "truth"):
            self.add_state(state, [], dist_reduce_fx="cat")

    @property
    def higher_is_better(self) -> bool:
        """The direction of the first output."""
        return self.metric.outputs[0].higher_is_better

    def update(self, images: Tensor, real: bool) -> None:
        """Adds images `(B, 3, H, W)` in [-1, 1] to the true ones (`real`) or to the generated ones."""
        (self.truth if real else self.made).append(self.encoder(images))

    def compute(self) -> dict[str, Tensor]:
        """Returns ``value``, and ``std`` where the metric has one.

        Raises:
            PmgError: there are too few images.
        """
        made, truth = dim_zero_cat(self.made), dim_zero_cat(self.truth)
        self.metric.check(len(made))
        return {name: torch.tensor(value) for name, value in self.metric(made, truth).items()}
