"""The balance z, the pick of a candidate, and the weights that are tried."""

from __future__ import annotations

import math

import pytest
import torch

from pmg.domain import PmgError
from pmg.generation.selection import (
    SMALLEST_COSINE,
    WeightedScores,
    WeightGrid,
    noise_seeds,
    pick,
)


def test_z_is_the_closed_form():
    d_p, d_t = torch.tensor([[0.2, 0.5]]), torch.tensor([[0.8, 0.25]])
    expected = torch.tensor([[0.3 * math.log(0.2) + 0.7 * math.log(0.8), 0.3 * math.log(0.5) + 0.7 * math.log(0.25)]])
    torch.testing.assert_close(WeightedScores()(d_p, d_t, 0.3), expected)


def test_a_sum_keeps_a_candidate_that_the_logarithms_refuse():
    d_p, d_t = torch.tensor([[0.9, 0.4]]), torch.tensor([[0.05, 0.4]])
    torch.testing.assert_close(WeightedScores(logarithms=False)(d_p, d_t, 0.5), torch.tensor([[0.475, 0.4]]))
    assert pick(WeightedScores(logarithms=False)(d_p, d_t, 0.5)).item() == 0
    assert pick(WeightedScores()(d_p, d_t, 0.5)).item() == 1


@pytest.mark.parametrize("cosine", [0.0, -0.4])
def test_a_cosine_without_logarithm_counts_as_the_smallest(cosine):
    z = WeightedScores()(torch.tensor([cosine]), torch.tensor([1.0]), 1.0)
    torch.testing.assert_close(z, torch.tensor([math.log(SMALLEST_COSINE)]))


def test_alpha_at_its_ends_reads_one_score():
    d_p, d_t = torch.rand(3, 4) + 0.1, torch.rand(3, 4) + 0.1
    torch.testing.assert_close(WeightedScores()(d_p, d_t, 0.0), d_t.log())
    torch.testing.assert_close(WeightedScores()(d_p, d_t, 1.0), d_p.log())


def test_each_user_may_have_an_alpha():
    d_p, d_t, alphas = torch.rand(3, 4) + 0.1, torch.rand(3, 4) + 0.1, [0.0, 0.3, 1.0]
    together = WeightedScores()(d_p, d_t, torch.tensor(alphas)[:, None])
    rows = [WeightedScores()(d_p[row], d_t[row], alpha) for row, alpha in enumerate(alphas)]
    torch.testing.assert_close(together, torch.stack(rows))


@pytest.mark.parametrize("combination", [WeightedScores(), WeightedScores(logarithms=False)])
def test_z_refuses_bad_input(combination):
    with pytest.raises(ValueError, match=r"got 1\.5"):
        combination(torch.ones(2), torch.ones(2), 1.5)
    with pytest.raises(ValueError, match="must be in"):
        combination(torch.ones(2), torch.ones(2), torch.tensor([0.5, math.nan]))


def test_pick_takes_the_first_best():
    assert pick(torch.tensor([[-3.0, -1.0, -2.0], [0.0, -1.0, 0.0]])).tolist() == [1, 0]


def test_pick_refuses_what_is_no_number():
    with pytest.raises(ValueError, match="a z is not a number"):
        pick(torch.tensor([[0.0, math.nan]]))


def test_grid_pairs_every_weight():
    assert WeightGrid((0.5, 1), (1, 2)).pairs == [(0.5, 1.0), (0.5, 2.0), (1.0, 1.0), (1.0, 2.0)]


@pytest.mark.parametrize("weights", [(), (-1.0,), (math.nan,), (math.inf,), (1.0, 1.0)])
def test_grid_refuses_bad_weights(weights):
    with pytest.raises(PmgError, match=r"weights\.preference"):
        WeightGrid(weights)


def test_repeated_pairs_are_drawn_from_other_noises():
    once, thrice = WeightGrid((1, 1.25)).pairs, WeightGrid((1, 1.25), noises=3).pairs
    assert thrice[:2] == once
    assert noise_seeds(5, once) == [5, 5]
    seeds = noise_seeds(5, thrice)
    assert seeds[:2] == [5, 5]
    assert seeds[2] == seeds[3]
    assert len(set(seeds)) == 3
    assert noise_seeds(5, thrice[:4]) == seeds[:4]
    assert not {*noise_seeds(6, thrice)} & {*seeds}
