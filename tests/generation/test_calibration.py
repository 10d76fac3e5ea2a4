"""Calibration of scores."""

import pytest
import torch

from pmg.generation.calibration import NoCalibration, NormalCalibration
from pmg.generation.selection import WeightedScores

MEASURED = NormalCalibration(-0.1, 0.05, 0.6, 0.2)


def test_scores_are_shares_of_a_normal_distribution():
    d_p, d_t = MEASURED(torch.tensor([-0.1, -0.05]), torch.tensor([0.6, 0.4]))
    torch.testing.assert_close(d_p, torch.tensor([0.5, 0.8413447]))
    torch.testing.assert_close(d_t, torch.tensor([0.5, 0.1586553]))


def test_scores_of_measured_cosines_are_uniform():
    torch.manual_seed(0)
    d_p, d_t = torch.randn(20_000) * 0.05 - 0.1, torch.randn(20_000) * 0.2 + 0.6
    for scores in MEASURED(d_p, d_t):
        assert scores.mean() == pytest.approx(0.5, abs=0.01)
        assert scores.std() == pytest.approx(12**-0.5, abs=0.01)


def test_negative_cosines_are_told_apart():
    """Without calibration their logarithms are clamped to one value."""
    d_p, d_t = torch.tensor([-0.2, -0.1]), torch.tensor([0.6, 0.6])
    plain, calibrated = (WeightedScores()(*calibration(d_p, d_t), 0.5) for calibration in (NoCalibration(), MEASURED))
    assert plain[0] == plain[1]
    assert calibrated[0] < calibrated[1]
