"""Pareto front and hypervolume, against brute force."""

from __future__ import annotations

import itertools
import random

import pytest

from pmg.generation.selection import hypervolume, pareto_front


def beats(one, other):
    """Whether `one` is at least as good in both and not the same."""
    return one[0] >= other[0] and one[1] >= other[1] and one != other


def dominated_area(points, reference=(0.0, 0.0)):
    """Brute force: the cells of the grid through all coordinates that some point covers."""
    xs, ys = (sorted({reference[axis], *(p[axis] for p in points if p[axis] > reference[axis])}) for axis in (0, 1))
    cells = ((a, b, c, d) for a, b in itertools.pairwise(xs) for c, d in itertools.pairwise(ys))
    return sum((b - a) * (d - c) for a, b, c, d in cells if any(p[0] >= b and p[1] >= d for p in points))


def draw(seed, count=12):
    """Cosines on a coarse lattice: ties and negative ones are frequent."""
    numbers = random.Random(seed)
    return [(numbers.randint(-3, 10) / 10, numbers.randint(-3, 10) / 10) for _ in range(count)]


@pytest.mark.parametrize("seed", range(20))
def test_front_and_area_equal_brute_force(seed):
    points = draw(seed)
    first = [place for place, point in enumerate(points) if point not in points[:place]]
    expected = [place for place in first if not any(beats(other, points[place]) for other in points)]
    assert list(pareto_front(points)) == expected
    assert hypervolume(points) == pytest.approx(dominated_area(points))


def test_known_areas():
    assert hypervolume([(0.5, 0.4)]) == pytest.approx(0.2)
    assert hypervolume([(0.5, 0.4), (0.2, 0.9), (0.1, 0.1)]) == pytest.approx(0.5 * 0.4 + 0.2 * 0.5)
    assert hypervolume([(-0.5, 0.9), (0.0, 1.0)]) == 0
    assert hypervolume([]) == 0


@pytest.mark.parametrize("seed", range(5))
def test_order_and_beaten_points_change_no_area(seed):
    points = draw(seed)
    front = [points[place] for place in pareto_front(points)]
    assert hypervolume(front[::-1]) == pytest.approx(hypervolume(points))
