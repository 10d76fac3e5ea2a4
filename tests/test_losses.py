"""Closed forms of the loss terms."""

from __future__ import annotations

import pytest
import torch

from pmg.losses import contrastive_loss, margin_contrast, min_snr_weight, per_sample_mse


def test_mse_is_zero_at_equality_and_per_sample():
    a = torch.randn(3, 2, 4, 4)
    b = a.clone()
    b[1] += 2
    assert torch.allclose(per_sample_mse(a, b), torch.tensor([0.0, 4.0, 0.0]))


@pytest.mark.parametrize(
    ("prediction_type", "expected"),
    [("epsilon", [1.0, 0.5]), ("v_prediction", [2 / 3, 5 / 11]), ("sample", [2.0, 5.0])],
)
def test_min_snr_weights(prediction_type, expected):
    weights = min_snr_weight(torch.tensor([2.0, 10.0]), 5.0, prediction_type)
    assert torch.allclose(weights, torch.tensor(expected))


def test_margin_contrast_is_bounded_and_has_no_gradient_once_the_margin_is_reached():
    own, other = torch.tensor([0.5, 0.5, 0.5]), torch.tensor([0.1, 0.55, 9.0], requires_grad=True)
    loss = margin_contrast(own, other, 0.1)
    torch.testing.assert_close(loss, torch.tensor([0.5, 0.05, 0.0]))
    loss.sum().backward()
    assert other.grad.tolist() == [-1.0, -1.0, 0.0]


def test_contrast_of_uniform_logits_is_the_log_of_their_number():
    positive = torch.tensor([[True, False, False, True]])
    assert torch.allclose(contrastive_loss(torch.zeros(1, 4), positive), torch.tensor([4.0]).log())


def test_contrast_falls_as_a_right_answer_rises():
    positive = torch.tensor([[True, False]])
    low, high = (contrastive_loss(torch.tensor([[value, 0.0]]), positive) for value in (0.0, 3.0))
    assert high < low
