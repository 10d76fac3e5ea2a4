"""How sharp edges are, and how flat areas, in pictures that are restored or generated.

Shapes: `N` pictures, `E` edges, `S` samples of the profile across an edge.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, max_pool2d

from pmg.looks.finishes import luma

HALF = 8  # pixels on each side of an edge that its profile shows
FINE = 4  # samples a pixel
PLATEAU = 3  # outer pixels of a profile on each side that have to be level
LEVEL = 0.02  # range of luma within which they are
CONTRAST = 0.25  # of a strong edge, in luma
WINDOW = 9  # pixels a side in which a flat area has one colour
EDGES = 1000  # of a picture, evenly chosen


def measure_edges(restored: Tensor, true: Tensor) -> dict[str, float]:
    """Returns the widths in pixels of restored edges and true ones at the same places, both `(N, 3, H, W)` in [-1, 1].

    A place is a strong edge of the true picture, see `find_edges`. The restored edge is measured on the same line
    between its own levels, if its contrast is half of the true one's; ``edges_found`` is the share of those.
    """
    own, others = [], []
    for picture, target in zip(_luma(restored), _luma(true), strict=True):
        grid = find_edges(target)
        own.append(_sample(picture, grid))
        others.append(_sample(target, grid))
    profiles, targets = torch.cat(own), torch.cat(others)
    found = _rise(profiles) > _rise(targets) / 2
    return {
        "edge_width": float(rise_widths(profiles[found]).mean()),
        "true_edge_width": float(rise_widths(targets[found]).mean()),
        "edges_found": float(found.float().mean()),
    }


def edge_width(pictures: Tensor) -> float:
    """Returns the mean width in pixels of the strong edges of pictures `(N, 3, H, W)` in [-1, 1]; NaN without one."""
    return float(torch.cat([rise_widths(_sample(one, find_edges(one))) for one in _luma(pictures)]).mean())


def flat_deviation(restored: Tensor, true: Tensor) -> float:
    """Returns the mean standard deviation within a window, in levels of 256, where the true one has one colour.

    Both are `(N, 3, H, W)` in [-1, 1]; NaN if nothing is flat.
    """
    target, pad = true * 127.5, WINDOW // 2
    spread = max_pool2d(target, WINDOW, 1, pad) + max_pool2d(-target, WINDOW, 1, pad)
    flat = spread.amax(1) < 0.5
    values = restored * 127.5
    mean = avg_pool2d(values, WINDOW, 1, pad, count_include_pad=False)
    variance = avg_pool2d(values.square(), WINDOW, 1, pad, count_include_pad=False) - mean.square()
    return float(variance.clamp(min=0).mean(1).sqrt()[flat].mean())


def find_edges(values: Tensor) -> Tensor:
    """Returns where to sample profiles across strong edges of luma `(1, 1, H, W)` in [0, 1], `(1, E, S, 2)`.

    An edge is where luma rises most steeply along its gradient, by `CONTRAST` between the ends of a profile of `HALF`
    pixels on each side, whose outer `PLATEAU` pixels are level on both.
    """
    height, width = values.shape[-2:]
    smooth = avg_pool2d(values, 3, 1, 1, count_include_pad=False)
    slope = torch.zeros(1, 2, height, width)
    slope[:, 0, :, 1:-1] = (smooth[..., 2:] - smooth[..., :-2])[:, 0]
    slope[:, 1, 1:-1] = (smooth[..., 2:, :] - smooth[..., :-2, :])[:, 0]
    steep = slope.norm(dim=1, keepdim=True)
    inner = torch.zeros(height, width, dtype=torch.bool)
    inner[HALF + 1 : -HALF - 1, HALF + 1 : -HALF - 1] = True
    y, x = torch.nonzero(inner & (steep[0, 0] > CONTRAST / HALF), as_tuple=True)
    direction = slope[0, :, y, x].T / steep[0, 0, y, x, None]
    here, size = torch.stack([x, y], 1).float(), torch.tensor([width, height])

    def lines(distances: Tensor) -> Tensor:
        """Returns the coordinates of `grid_sample` at distances `(S,)` from each edge along its gradient."""
        points = here[:, None] + distances[None, :, None] * direction[:, None]
        return ((points + 0.5) / size * 2 - 1)[None]

    before, own, after = _sample(steep, lines(torch.tensor([-1.0, 0.0, 1.0]))).unbind(1)
    grid = lines(torch.arange(-HALF * FINE, HALF * FINE + 1) / FINE)
    profiles, outer = _sample(values, grid), PLATEAU * FINE
    ends = torch.stack([profiles[:, :outer], profiles[:, -outer:]], 1)
    level = (ends.amax(-1) - ends.amin(-1) < LEVEL).all(1)
    chosen = torch.nonzero((own >= before) & (own > after) & level & (_rise(profiles) > CONTRAST)).flatten()
    return grid[:, chosen[:: max(1, len(chosen) // EDGES)]]


def rise_widths(profiles: Tensor) -> Tensor:
    """Returns the distance in pixels from 10 to 90 % of the rise of profiles `(E, S)` that go up, `(E,)`.

    It is the distance between the last sample below 10 % before the middle of the rise and the first one above 90 %
    behind it, both interpolated.
    """
    low, rise = profiles[:, : PLATEAU * FINE].mean(1, keepdim=True), _rise(profiles)[:, None]
    parts, places = (profiles - low) / rise, torch.arange(profiles.shape[1])
    middle = (parts >= 0.5).float().argmax(1, keepdim=True)
    start = torch.where((parts < 0.1) & (places < middle), places, 0).amax(1)
    end = torch.where((parts > 0.9) & (places >= middle), places, len(places) - 1).amin(1)
    rows = torch.arange(len(parts))

    def cross(left: Tensor, value: float) -> Tensor:
        """Returns where the line between a sample and the next one crosses a value."""
        one, two = parts[rows, left], parts[rows, left + 1]
        return left + ((value - one) / (two - one).clamp(min=1e-6)).clamp(0, 1)

    return (cross((end - 1).clamp(min=0), 0.9) - cross(start, 0.1)) / FINE


def _luma(pictures: Tensor) -> tuple[Tensor, ...]:
    return luma(pictures.float() / 2 + 0.5).split(1)


def _sample(values: Tensor, grid: Tensor) -> Tensor:
    """Returns values `(1, 1, H, W)` at the places of a grid `(1, E, S, 2)`, `(E, S)`."""
    return grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=False)[0, 0]


def _rise(profiles: Tensor) -> Tensor:
    return profiles[:, -PLATEAU * FINE :].mean(1) - profiles[:, : PLATEAU * FINE].mean(1)
