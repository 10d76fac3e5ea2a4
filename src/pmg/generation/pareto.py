"""Pareto front and hypervolume of candidates, by preference score and accuracy score."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]  # (d_p, d_t), both better when larger


def pareto_front(points: Sequence[Point]) -> tuple[int, ...]:
    """Returns the indices of the non-dominated points, in their order; of equal points the first.

    They include the candidate with the highest z for any alpha between 0 and 1, since z increases with both scores.
    """
    front: list[int] = []
    best = float("-inf")
    for place in sorted(range(len(points)), key=lambda place: (-points[place][0], -points[place][1], place)):
        if points[place][1] > best:
            best = points[place][1]
            front.append(place)
    return tuple(sorted(front))


def hypervolume(points: Sequence[Point]) -> float:
    """Returns the area that the points dominate (Zitzler & Thiele 1999), in closed form for two objectives.

    Args:
        points: scores of the candidates; those below 0 dominate no area.

    Returns:
        An area in [0, 1] from scores of 0, where a cosine says that an image is unrelated to the words.
    """
    area, covered = 0.0, 0.0
    for place in sorted(pareto_front(points), key=lambda place: -points[place][0]):
        width, height = points[place][0], points[place][1] - covered
        if width > 0 and height > 0:
            area += width * height
            covered = points[place][1]
    return area
