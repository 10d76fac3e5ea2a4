"""The moving average of weights: what it counts, and what is fitted to it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn.init import constant_

from pmg.training.ema import AveragedWeights


@pytest.fixture
def model():
    """A weight of 1."""
    return torch.nn.Linear(1, 1, bias=False).apply(lambda part: constant_(part.weight, 1.0))


def test_batches_that_only_accumulate_gradients_leave_the_average_as_it_is(model):
    average = AveragedWeights(model, decay=0.5)
    for step, weight in ((0, 9.0), (1, 2.0), (1, 9.0), (2, 4.0)):
        constant_(model.weight, weight)
        average.on_train_batch_end(SimpleNamespace(global_step=step))
    average.copy()
    assert float(model.weight) == pytest.approx((2 * 2 + 9 * 4) / 11)


def test_statistics_are_fitted_to_the_average_before_a_validation(model):
    seen = []
    average = AveragedWeights(model, decay=0.5, refit=lambda: seen.append(float(model.weight)))
    constant_(model.weight, 3.0)
    average.on_validation_start(None, None)
    average.on_validation_end(None)
    assert (seen, float(model.weight)) == ([1.0], 3.0)
