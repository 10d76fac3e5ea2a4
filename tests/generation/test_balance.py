from __future__ import annotations

import math

import pytest
import torch

from pmg.domain import PmgError
from pmg.generation.balance import SMALLEST_COSINE, WeightGrid, balance_z, pick


def test_z_is_the_closed_form():
    d_p, d_t = torch.tensor([[0.2, 0.5]]), torch.tensor([[0.8, 0.25]])
    expected = torch.tensor([[0.3 * math.log(0.2) + 0.7 * math.log(0.8), 0.3 * math.log(0.5) + 0.7 * math.log(0.25)]])
    torch.testing.assert_close(balance_z(d_p, d_t, 0.3), expected)


@pytest.mark.parametrize("cosine", [0.0, -0.4])
def test_a_cosine_without_logarithm_counts_as_the_smallest(cosine):
    z = balance_z(torch.tensor([cosine]), torch.tensor([1.0]), 1.0)
    torch.testing.assert_close(z, torch.tensor([math.log(SMALLEST_COSINE)]))


def test_alpha_at_its_ends_reads_one_score():
    d_p, d_t = torch.rand(3, 4) + 0.1, torch.rand(3, 4) + 0.1
    torch.testing.assert_close(balance_z(d_p, d_t, 0.0), d_t.log())
    torch.testing.assert_close(balance_z(d_p, d_t, 1.0), d_p.log())


def test_z_refuses_bad_input():
    with pytest.raises(ValueError, match="must agree"):
        balance_z(torch.ones(2), torch.ones(3), 0.5)
    with pytest.raises(ValueError, match=r"got 1\.5"):
        balance_z(torch.ones(2), torch.ones(2), 1.5)


def test_pick_takes_the_first_best():
    assert pick(torch.tensor([[-3.0, -1.0, -2.0], [0.0, -1.0, 0.0]])).tolist() == [1, 0]


@pytest.mark.parametrize("z", [torch.zeros(2, 0), torch.zeros(3), torch.tensor([[0.0, math.nan]])])
def test_pick_refuses_bad_input(z):
    with pytest.raises(ValueError, match="z"):
        pick(z)


def test_grid_pairs_every_weight():
    assert WeightGrid((0.5, 1), (1, 2)).pairs == [(0.5, 1.0), (0.5, 2.0), (1.0, 1.0), (1.0, 2.0)]


@pytest.mark.parametrize("weights", [(), (-1.0,), (math.nan,), (math.inf,), (1.0, 1.0)])
def test_grid_refuses_bad_weights(weights):
    with pytest.raises(PmgError, match=r"weights\.preference"):
        WeightGrid(weights)
