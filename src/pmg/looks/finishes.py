"""Finishes: how a drawing with transparency is coloured, outlined and put on a ground.

A finish is a set of continuous parameters. `apply_finishes` turns drawings `(B, 4, H, W)` and one finish each into
pictures `(B, 3, H, W)`: palette first (hue, saturation, lightness, contrast, duotone), then surface, outline and
ground. All operations are deterministic; the same drawing and finish give the same picture.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import binary_fill_holes, distance_transform_edt
from torch import Tensor

Colour = tuple[float, float, float]  # red, green, blue in [0, 1]
Surface = Literal["flat", "halftone", "pixels", "paper"]
SURFACES: tuple[Surface, ...] = ("flat", "halftone", "pixels", "paper")
BLACK, WHITE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
GRAIN_GREY = 0.4  # the grain darkens light grounds and lightens dark ones
# what a `FinishSpace` draws, and what readings are normalised by; outlines in pixels, of a drawing of 64
SATURATION, LIGHTNESS, CONTRAST, OUTLINE = (0.0, 1.6), (-0.2, 0.3), (0.7, 1.3), (1.5, 4.0)
BASE_SIZE = 64  # pixels a side for which widths are given; other sizes scale them


@dataclass(frozen=True)
class Finish:
    """How a drawing is finished; the default leaves it as drawn, on white."""

    hue: float = 0.0  # turn of the hue circle, in degrees
    saturation: float = 1.0  # factor, 0: grey; drawn from `SATURATION`
    lightness: float = 0.0  # -1 (black) to 1 (white), 0: as drawn; drawn from `LIGHTNESS`
    contrast: float = 1.0  # factor around middle grey; drawn from `CONTRAST`
    duotone: float = 0.0  # 0 or 1: whether luma is mapped to the colours from `dark` to `light`
    dark: Colour = BLACK  # colour of black in a duotone
    light: Colour = WHITE  # colour of white in a duotone
    outline: float = 0.0  # width in pixels of a drawing of 64: 0 or 1.5 to 4
    outline_colour: Colour = BLACK  # its colour
    ground: Colour = WHITE  # colour behind the drawing
    surface: Surface = "flat"  # texture of the picture
    degree: float = 0.0  # strength of the surface, 0 (finest) to 1 (coarsest); ignored when `flat`


AS_DRAWN = Finish()
_CODE = struct.Struct(">19fB")  # hue to duotone, two colours, outline and its colour, ground, degree; surface


def encode_finish(finish: Finish) -> str:
    """Returns a finish as 104 characters that are fit for file names; pictures under it stay equal bit for bit."""
    numbers = [
        finish.hue, finish.saturation, finish.lightness, finish.contrast, finish.duotone, *finish.dark, *finish.light,
        finish.outline, *finish.outline_colour, *finish.ground, finish.degree,
    ]  # fmt: skip
    return base64.urlsafe_b64encode(_CODE.pack(*numbers, SURFACES.index(finish.surface))).decode()


def decode_finish(code: str) -> Finish:
    """Returns the finish that `encode_finish` wrote, in float32; ValueError if the text is no finish."""
    try:
        *numbers, surface = _CODE.unpack(base64.urlsafe_b64decode(code))
        kind = SURFACES[surface]
    except (binascii.Error, struct.error, IndexError) as error:
        raise ValueError(f"not an encoded finish: '{code}'") from error
    hue, saturation, lightness, contrast, duotone = numbers[:5]
    dark, light, line, ground = ((r, g, b) for r, g, b in (numbers[at : at + 3] for at in (5, 8, 12, 15)))
    return Finish(
        hue, saturation, lightness, contrast, duotone, dark=dark, light=light, outline=numbers[11],
        outline_colour=line, ground=ground, surface=kind, degree=numbers[18],
    )  # fmt: skip


class FinishBatch(SimpleNamespace):
    """The fields of `B` finishes as tensors: scalars `(B,)`, colours `(B, 3)`, `surface` int64 `(B,)`."""

    @classmethod
    def stack(cls, finishes: Sequence[Finish]) -> FinishBatch:
        """Returns the finishes' parameters as tensors."""
        columns = {field.name: [getattr(finish, field.name) for finish in finishes] for field in fields(Finish)}
        surface = torch.tensor([SURFACES.index(name) for name in columns.pop("surface")])
        return cls(surface=surface, **{name: torch.tensor(values).float() for name, values in columns.items()})


def apply_finishes(drawings: Tensor, finishes: FinishBatch) -> Tensor:
    """Returns finished pictures, float32 in [0, 1], `(B, 3, H, W)`, rounded to 256 levels.

    `drawings` are red, green, blue (not premultiplied) and alpha, uint8 or float in [0, 255], `(B, 4, H, W)`.
    """
    values = drawings.float() / 255
    colour, alpha = values[:, :3], values[:, 3:]
    colour = _palette(colour, finishes)
    colour = _halftone(colour, finishes)
    ring = outline_mask(alpha, finishes.outline * (drawings.shape[-1] / BASE_SIZE))
    picture = _spread(finishes.ground).expand_as(colour)
    picture = torch.lerp(picture, _spread(finishes.outline_colour).expand_as(colour), ring)
    picture = torch.lerp(picture, colour, alpha)
    picture = _pixels(picture, finishes)
    picture = _paper(picture, finishes)
    return (picture.clamp(0, 1) * 255).round() / 255


def luma(colour: Tensor) -> Tensor:
    """Returns the luma `(B, 1, H, W)` of colours `(B, 3, H, W)` in [0, 1]."""
    return (colour * colour.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def rgb_to_hsl(colour: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns hue in [0, 1), saturation and lightness in [0, 1], each `(B, H, W)`."""
    red, green, blue = colour.unbind(1)
    high, low = colour.amax(1), colour.amin(1)
    chroma = high - low
    safe = chroma.clamp(min=1e-6)
    from_green = torch.where(high == green, (blue - red) / safe + 2, (red - green) / safe + 4)
    hue = torch.where(high == red, ((green - blue) / safe) % 6, from_green)
    lightness = (high + low) / 2
    saturation = chroma / (1 - (2 * lightness - 1).abs()).clamp(min=1e-6)
    return torch.where(chroma > 0, hue / 6, torch.zeros_like(hue)), saturation.clamp(0, 1), lightness


def hsl_to_rgb(hue: Tensor, saturation: Tensor, lightness: Tensor) -> Tensor:
    """Returns colours `(B, 3, H, W)` in [0, 1]; the inverse of `rgb_to_hsl`."""
    amplitude = saturation * torch.minimum(lightness, 1 - lightness)
    places = ((offset + hue * 12) % 12 for offset in (0.0, 8.0, 4.0))
    return torch.stack([lightness - amplitude * torch.minimum(p - 3, 9 - p).clamp(-1, 1) for p in places], 1)


def fill_holes(alpha: Tensor) -> Tensor:
    """Returns the opacity `(B, 1, H, W)` with everything that the drawing encloses made opaque."""
    opaque = (alpha >= 0.5).numpy()
    filled = np.stack([binary_fill_holes(mask[0]) for mask in opaque])[:, None]
    return torch.maximum(alpha, torch.from_numpy(filled & ~opaque).float())


def outline_mask(alpha: Tensor, width: Tensor) -> Tensor:
    """Returns the opacity `(B, 1, H, W)` in [0, 1] of an outline, `width` `(B,)` pixels, around each silhouette.

    Holes of a line drawing keep the ground's colour: a thick outline would fill them.
    """
    ring = torch.zeros_like(alpha)
    rows = torch.nonzero(width > 0).flatten()
    if len(rows):
        silhouette = fill_holes(alpha[rows])
        enclosed = silhouette - alpha[rows]
        ring[rows] = _dilate(silhouette, width[rows]) * (1 - enclosed)
    return ring


def _dilate(alpha: Tensor, width: Tensor) -> Tensor:
    """Returns `alpha` made larger by `width` pixels `(B,)` on all sides, with smooth edges."""
    reach = math.ceil(float(width.max()))
    if reach > OUTLINE[1]:  # shifts grow with the square of the width: 1,089 for the widest outline at 256 pixels
        distance = np.stack([distance_transform_edt(mask[0] < 0.5) for mask in alpha.numpy()])[:, None]
        cover = (width.view(-1, 1, 1, 1) + 1 - torch.from_numpy(distance).float()).clamp(0, 1)
        return torch.maximum(alpha, cover * (alpha.amax((1, 2, 3), keepdim=True) >= 0.5))
    padded = F.pad(alpha, (reach,) * 4)
    height, breadth = alpha.shape[-2:]
    ring = torch.zeros_like(alpha)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            cover = (width + 1 - math.hypot(dx, dy)).clamp(0, 1)
            if not bool((cover > 0).any()):
                continue
            moved = padded[..., reach + dy : reach + dy + height, reach + dx : reach + dx + breadth]
            ring = torch.maximum(ring, moved * cover.view(-1, 1, 1, 1))
    return ring


def _spread(values: Tensor) -> Tensor:
    """Returns `(B,)` or `(B, 3)` as `(B, 1 or 3, 1, 1)`."""
    return values.reshape(len(values), -1, 1, 1)


def _palette(colour: Tensor, finishes: FinishBatch) -> Tensor:
    hue, saturation, lightness = rgb_to_hsl(colour)
    hue = (hue + finishes.hue.view(-1, 1, 1) / 360) % 1
    saturation = (saturation * finishes.saturation.view(-1, 1, 1)).clamp(0, 1)
    turned = hsl_to_rgb(hue, saturation, lightness)
    turned = (turned - 0.5) * _spread(finishes.contrast) + 0.5
    shift = _spread(finishes.lightness)
    turned = torch.where(shift > 0, turned + (1 - turned) * shift, turned * (1 + shift)).clamp(0, 1)
    duotone = torch.lerp(_spread(finishes.dark), _spread(finishes.light), luma(turned))
    return torch.lerp(turned, duotone, _spread(finishes.duotone))


def _of_surface(finishes: FinishBatch, name: Surface) -> Tensor:
    return torch.nonzero(finishes.surface == SURFACES.index(name)).flatten()


def _halftone(colour: Tensor, finishes: FinishBatch) -> Tensor:
    """Dots on a grid turned by 45 degrees, larger where the drawing is darker; pitch 4 to 7 pixels."""
    rows = _of_surface(finishes, "halftone")
    if not len(rows):
        return colour
    part, scale = colour[rows], colour.shape[-1] / BASE_SIZE
    pitch = (4 + 3 * finishes.degree[rows]).view(-1, 1, 1, 1) * scale
    y, x = torch.meshgrid(*(torch.arange(side, dtype=torch.float32) for side in colour.shape[-2:]), indexing="ij")
    u, v = (x + y) / math.sqrt(2) / pitch, (x - y) / math.sqrt(2) / pitch
    away = torch.hypot(u - u.round(), v - v.round()) * pitch  # pixels from the dot's centre
    radius = (0.52 - 0.3 * luma(part)) * pitch
    dots = (radius - away + 0.5).clamp(0, 1)
    paler, darker = part + (1 - part) * 0.45, part * 0.6
    return colour.index_copy(0, rows, torch.lerp(paler, darker, dots))


def _pixels(picture: Tensor, finishes: FinishBatch) -> Tensor:
    """Square blocks of one colour each, 2 to 6 pixels a side."""
    picture = picture.clone()
    for row in _of_surface(finishes, "pixels").tolist():
        blocks = round(BASE_SIZE / (2 + 4 * float(finishes.degree[row])))
        small = F.interpolate(picture[row : row + 1], size=(blocks, blocks), mode="area")
        picture[row] = F.interpolate(small, size=picture.shape[-2:], mode="nearest-exact")[0]
    return picture


def _paper(picture: Tensor, finishes: FinishBatch) -> Tensor:
    """Grain of two sizes over the whole picture, which pulls towards dark grey with strength 0.15 to 0.4."""
    rows = _of_surface(finishes, "paper")
    if not len(rows):
        return picture
    strength = (0.15 + 0.25 * finishes.degree[rows]).view(-1, 1, 1, 1)
    grey = torch.full_like(picture[rows], GRAIN_GREY)
    return picture.index_copy(0, rows, torch.lerp(picture[rows], grey, strength * grain(picture.shape[-1])))


def grain(size: int) -> Tensor:
    """Returns the paper's grain in [0, 1], `(1, 1, size, size)`: fixed noise, fine and coarse in equal parts."""
    rng = torch.Generator().manual_seed(20240513)
    fine = torch.rand((1, 1, BASE_SIZE, BASE_SIZE), generator=rng)
    coarse = torch.rand((1, 1, BASE_SIZE // 4, BASE_SIZE // 4), generator=rng)
    both = [F.interpolate(part, size=(size, size), mode="bilinear", align_corners=False) for part in (fine, coarse)]
    return (both[0] + both[1]) / 2
