"""Candidates as a trade of preference against accuracy: the Pareto front and how much it dominates."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]  # (d_p, d_t), both better when larger


def pareto_front(points: Sequence[Point]) -> tuple[int, ...]:
    """Indices of the points that no other one beats, in their order; of equal points the first.

    The candidate that z picks is one of them for any alpha between 0 and 1, since z grows with both scores.
    """
    front: list[int] = []
    best = float("-inf")
    for place in sorted(range(len(points)), key=lambda place: (-points[place][0], -points[place][1], place)):
        if points[place][1] > best:
            best = points[place][1]
            front.append(place)
    return tuple(sorted(front))


def hypervolume(points: Sequence[Point], reference: Point = (0.0, 0.0)) -> float:
    """Area that the points dominate (Zitzler & Thiele 1999), in closed form for two objectives.

    Args:
        points: scores of the candidates; those below the reference dominate nothing.
        reference: the point at which a score is worth nothing. The default is a cosine of 0: an image that has
            nothing to do with the words. With it the area lies in [0, 1].
    """
    area, covered = 0.0, reference[1]
    for place in sorted(pareto_front(points), key=lambda place: -points[place][0]):
        width, height = points[place][0] - reference[0], points[place][1] - covered
        if width > 0 and height > 0:
            area += width * height
            covered = points[place][1]
    return area
