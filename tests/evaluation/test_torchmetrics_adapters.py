"""Metrics as torchmetrics, against the direct computation."""

from __future__ import annotations

import pytest
import torch

from pmg.domain import Example, Item, PmgError
from pmg.evaluation.metric_interface import MetricInfo, References
from pmg.evaluation.metrics.distribution import Cmmd, Kid
from pmg.evaluation.metrics.lpips import LpipsToTruth
from pmg.evaluation.metrics.ssim import SsimToTruth
from pmg.evaluation.torchmetrics_adapters import ImageSetMetric, MeanImageMetric
from pmg.models.vision.perceptual import PerceptualDistance

ITEM = Item("i", "i", "i")


def pictures(count, seed=0):
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def references(truths):
    return References([Example(str(n), str(n), (), ITEM, (ITEM,)) for n in range(len(truths))], truths=truths)


def colours(images):
    """Real features, if tiny: each channel's mean and deviation."""
    return torch.cat([images.mean((2, 3)), images.std((2, 3))], dim=1)


@pytest.mark.parametrize("kind", [LpipsToTruth, SsimToTruth])
def test_mean_over_batches_is_that_of_all_images(root, kind):
    direct = kind(PerceptualDistance.from_folder(root / "assets" / "lpips"))
    truths = [pictures(1 + n % 2, 9 + n) for n in range(5)]
    whole = direct(pictures(5), references(truths))
    metric = MeanImageMetric(direct)
    for start, stop in ((0, 3), (3, 5)):
        metric.update(pictures(5)[start:stop], references(truths[start:stop]))
    (name,) = whole
    assert metric.compute()[name] == pytest.approx(float(whole[name].mean()), rel=1e-5)
    assert metric.higher_is_better is (kind is SsimToTruth)
    metric.reset()
    assert metric.totals.tolist() == [0.0]


class Brightness:
    outputs = (MetricInfo("brightness", "brightness"), MetricInfo("unmeasured", "unmeasured"))
    inputs = ()

    def __call__(self, images, references):
        values = images.mean((1, 2, 3))
        return {"brightness": values.where(values > 0, torch.nan), "unmeasured": values * torch.nan}


def test_images_without_a_value_count_in_no_mean():
    metric, values = MeanImageMetric(Brightness()), pictures(6).mean((1, 2, 3))
    metric.update(pictures(6), references([]))
    found = metric.compute()
    assert found["brightness"] == pytest.approx(float(values[values > 0].mean()))
    assert found["unmeasured"].isnan()


def test_sets_in_batches_are_whole_sets():
    made, truth = pictures(8), pictures(8, 1)
    for direct in (Cmmd("colours", colours), Kid("colours", colours, subsets=3, subset_size=4)):
        metric = ImageSetMetric(direct)
        for part in truth.split(3):
            metric.update(part, real=True)
        for part in made.split(5):
            metric.update(part, real=False)
        assert {k: float(v) for k, v in metric.compute().items()} == pytest.approx(
            direct(colours(made), colours(truth))
        )


def test_sets_that_are_too_small_and_metrics_without_an_encoder_are_refused():
    metric = ImageSetMetric(Kid("colours", colours))
    metric.update(pictures(2), real=True)
    metric.update(pictures(2), real=False)
    with pytest.raises(PmgError, match="from 2 images"):
        metric.compute()
    with pytest.raises(ValueError, match="Give the metric an encoder"):
        ImageSetMetric(Kid())
