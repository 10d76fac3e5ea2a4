"""The Pareto front, against brute force."""

from __future__ import annotations

import random

import pytest
import torch

from pmg.generation.selection import WeightedScores, pareto_front


def beats(one, other):
    """Whether `one` is at least as good in both and not the same."""
    return one[0] >= other[0] and one[1] >= other[1] and one != other


def draw(seed, count=12):
    """Cosines on a coarse lattice: ties and negative ones are frequent."""
    numbers = random.Random(seed)
    return [(numbers.randint(-3, 10) / 10, numbers.randint(-3, 10) / 10) for _ in range(count)]


@pytest.mark.parametrize("seed", range(20))
def test_front_equals_brute_force(seed):
    points = draw(seed)
    first = [place for place, point in enumerate(points) if point not in points[:place]]
    expected = [place for place in first if not any(beats(other, points[place]) for other in points)]
    assert list(pareto_front(points)) == expected


@pytest.mark.parametrize("logarithms", [True, False])
@pytest.mark.parametrize("points", [[(-0.2, 0.5), (-0.1, 0.5)], *map(draw, range(20))])
def test_front_has_a_candidate_of_the_highest_z(points, logarithms):
    front = list(pareto_front(points))
    for alpha in (0.0, 0.3, 1.0):
        z = WeightedScores(logarithms)(*torch.tensor(points).T, alpha)
        assert z[front].max() == z.max()
    assert (front == [1]) == (len(points) == 2)  # of two scores without a logarithm the larger one
