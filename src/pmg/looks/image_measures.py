"""Measurements of images on a plain background: colours, outline, surface and strokes, without a trained model.

Shapes: `B` pictures, `H, W` pixels. Pictures are float32 in [0, 1], `(B, 3, H, W)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import binary_fill_holes
from torch import Tensor

from pmg.looks.finishes import luma

FRAME = 2  # width in pixels of the border that shows the background
LAYERS = 7  # maximum depth in pixels at which an outline is searched
BLOCKS = range(11, 33)  # candidate numbers of blocks a side in pixel art of 64 pixels
NEAR = 0.16  # maximum difference in a channel of colours that count as equal
DETAIL = 0.08  # luma; stronger detail is clipped to this
PITCHES = torch.arange(3.5, 8.0, 0.25)  # pixels between the dots of a halftone


@dataclass(frozen=True)
class Measures:
    """Measurements of `B` images."""

    ground: Tensor  # median colour of the frame, `(B, 3)`
    grain: Tensor  # share of the frame's pixels that differ from the ground, `(B,)`
    blockiness: Tensor  # share of the change between neighbouring pixels inside of square blocks; 0: pixel art, `(B,)`
    dots: Tensor  # strength of a pattern of dots inside the drawing, in [0, 1], `(B,)`
    outline: Tensor  # width of an outline of one colour in pixels, 0 where there is none, `(B,)`
    outline_colour: Tensor  # its colour, `(B, 3)`
    interior: Tensor  # bool `(B, H, W)`: the drawing without its outline
    fill: Tensor  # share of the silhouette that the drawing covers; low for line drawings, `(B,)`
    tones: Tensor  # number of different colours that make up most of the interior, `(B,)`
    two_tone: Tensor  # share of the interior's colour variance along one line, in [0, 1], `(B,)`


@torch.no_grad()
def measure_pictures(pictures: Tensor) -> Measures:
    """Returns the measures of pictures `(B, 3, H, W)` in [0, 1]."""
    ground, grain = measure_ground(pictures)
    limit = 0.1 + 0.1 * (grain > 0.5).float()
    mask = (pictures - ground[..., None, None]).abs().amax(1) > limit.view(-1, 1, 1)
    silhouette = torch.from_numpy(np.stack([binary_fill_holes(part) for part in mask.numpy()]))
    depth = measure_depth(silhouette)
    widths, colours = zip(*map(_outline, pictures, depth), strict=True)  # of layers that the interior has no colour of
    outline, colour = torch.tensor(widths), torch.stack(colours)
    interior = mask & (depth > outline.view(-1, 1, 1) + 0.5)
    interior = torch.where(interior.flatten(1).any(1).view(-1, 1, 1), interior, mask)
    return Measures(
        ground=ground, grain=grain, blockiness=measure_blocks(pictures), dots=measure_dots(pictures, interior),
        outline=outline, outline_colour=colour, interior=interior, tones=count_tones(pictures, interior),
        fill=mask.sum((1, 2)) / silhouette.sum((1, 2)).clamp(min=1), two_tone=measure_two_tone(pictures, interior),
    )  # fmt: skip


def measure_ground(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the median colour `(B, 3)` of the frame, and the share `(B,)` of the frame that differs from it."""
    height, width = pictures.shape[-2:]
    frame = torch.ones(height, width, dtype=torch.bool)
    frame[FRAME:-FRAME, FRAME:-FRAME] = False
    pixels = pictures[..., frame]
    ground = pixels.median(-1).values
    differs = ((pixels - ground[..., None]).abs().amax(1) > 0.012).float().mean(-1)
    return ground, differs


def measure_depth(silhouette: Tensor) -> Tensor:
    """Returns each pixel's depth `(B, H, W)` in pixels inside the silhouette: 0 outside, at most `LAYERS`."""
    inside = silhouette.float()[:, None]
    depth = inside.clone()
    for _ in range(LAYERS - 1):
        inside = -F.max_pool2d(F.pad(-inside, (1, 1, 1, 1), value=0.0), 3, stride=1)
        depth += inside
    return depth[:, 0]


def _outline(picture: Tensor, depth: Tensor) -> tuple[float, Tensor]:
    """Returns width and colour of one picture's outline; the first layer is partly mixed with the ground."""
    nothing = 0.0, torch.zeros(3)
    inner = picture[:, depth >= LAYERS - 1]
    for first, needed in ((2, 0.55), (1, 0.45)):
        layer = picture[:, depth == first]
        if layer.shape[1] < 20:
            return nothing
        colour = layer.median(-1).values
        near = (picture - colour.view(3, 1, 1)).abs().amax(0) < NEAR
        shares = [float(near[depth == number].float().mean()) for number in range(first, LAYERS)]
        inside = float(((inner - colour[:, None]).abs().amax(0) < NEAR).float().mean()) if inner.numel() else 0.0
        wide = next((number for number, share in enumerate(shares) if share < shares[0] * 0.7), len(shares))
        if shares[0] >= needed and inside < 0.4 and wide < len(shares):
            return wide + first - 0.5, colour
    return nothing


def measure_blocks(pictures: Tensor) -> Tensor:
    """Returns the least share `(B,)` of change inside of blocks, over numbers of blocks a side."""
    change = (pictures[..., 1:] - pictures[..., :-1]).abs().mean((1, 2, 3)).clamp(min=1e-4)
    size = pictures.shape[-1]
    inside = []
    for blocks in BLOCKS:
        count = round(blocks * size / 64)
        block = ((torch.arange(size) + 0.5) * count / size).long()
        middles = ((block + 0.5) * size / count).long()  # the middle pixel of each pixel's block
        again = pictures.index_select(-2, middles).index_select(-1, middles)
        inside.append((pictures - again).abs().mean((1, 2, 3)) / change)
    return torch.stack(inside, 1).amin(1)


def measure_dots(pictures: Tensor, interior: Tensor) -> Tensor:
    """Returns the strength `(B,)` of a pattern on a grid turned by 45 degrees, as a share of the fine detail."""
    light = luma(pictures)[:, 0]
    weight = interior.float()
    smooth = F.avg_pool2d((light * weight)[:, None], 9, 1, 4) / F.avg_pool2d(weight[:, None], 9, 1, 4).clamp(min=1e-3)
    detail = (light - smooth[:, 0]).clamp(-DETAIL, DETAIL) * weight  # edges are stronger than dots
    energy = detail.square().sum((1, 2)).clamp(min=1e-6) * weight.sum((1, 2)).clamp(min=1)
    y, x = torch.meshgrid(*(torch.arange(side) for side in light.shape[-2:]), indexing="ij")
    strength = []
    for pitch in PITCHES * pictures.shape[-1] / 64:
        waves = [2 * math.pi * axis / math.sqrt(2) / pitch for axis in (x + y, x - y)]
        parts = [((detail * w.cos()).sum((1, 2)).square() + (detail * w.sin()).sum((1, 2)).square()) for w in waves]
        strength.append(torch.minimum(*parts) * 4 / energy)
    return torch.stack(strength, 1).amax(1).clamp(max=1)


def count_tones(pictures: Tensor, interior: Tensor) -> Tensor:
    """Returns how many of 512 colours make up four fifths of the interior, `(B,)`."""
    codes = ((pictures * 7.999).long() * torch.tensor([64, 8, 1]).view(1, 3, 1, 1)).sum(1)
    tones = []
    for code, inside in zip(codes, interior, strict=True):
        counts = torch.bincount(code[inside], minlength=512).sort(descending=True).values.float()
        tones.append(int((counts.cumsum(0) < 0.8 * counts.sum()).sum()) + 1)
    return torch.tensor(tones)


def measure_two_tone(pictures: Tensor, interior: Tensor) -> Tensor:
    """Returns the share `(B,)` of the interior's variance along one line of the colour cube."""
    weight = interior.float()[:, None]
    count = weight.sum((2, 3)).clamp(min=1)
    mean = (pictures * weight).sum((2, 3)) / count
    centred = ((pictures - mean[..., None, None]) * weight).flatten(2)
    values = torch.linalg.eigvalsh(centred @ centred.transpose(1, 2))
    return values[:, -1] / values.sum(1).clamp(min=1e-6)
