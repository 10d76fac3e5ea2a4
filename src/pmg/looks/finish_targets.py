"""A finish as numbers that can be read back from a picture, and the error of such a reading.

Every number is normalised by its parameter's range. Parameters that leave no trace (the hue of a grey drawing, the
colour of an outline of no width) are masked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pmg.looks.finish_space import GREY
from pmg.looks.finishes import CONTRAST, LIGHTNESS, OUTLINE, SATURATION, SURFACES, Finish

# name -> number of values; a reading's error is one number a parameter
PARAMETERS = {
    "hue": 2, "saturation": 1, "lightness": 1, "contrast": 1, "duotone": 1, "dark": 3, "light": 3,
    "outline": 1, "outline_colour": 3, "ground": 3, "surface": len(SURFACES), "degree": 1,
}  # fmt: skip
SIZE = sum(PARAMETERS.values())


def finish_values(finishes: Sequence[Finish], coloured: Sequence[bool]) -> tuple[Tensor, Tensor]:
    """Returns the values `(B, SIZE)` of finishes, and bool `(B, SIZE)`: which of them leave a trace.

    Hue and saturation of drawings that weren't `coloured` before they were finished leave none.
    """
    rows = [_values(finish, has_colour) for finish, has_colour in zip(finishes, coloured, strict=True)]
    values = torch.tensor([[value for name in PARAMETERS for value in row[name][0]] for row in rows])
    traces = torch.tensor([[row[name][1] for name, size in PARAMETERS.items() for _ in range(size)] for row in rows])
    return values.float(), traces


def _values(finish: Finish, coloured: bool) -> dict[str, tuple[tuple[float, ...], bool]]:
    """Returns each parameter's values, as many as `PARAMETERS` says, and whether they leave a trace."""
    duotone = finish.duotone > 0.5
    hue = math.radians(finish.hue)
    surface = tuple(float(name == finish.surface) for name in SURFACES)
    return {
        "hue": ((math.cos(hue), math.sin(hue)), coloured and not duotone and finish.saturation >= GREY),
        "saturation": ((_share(finish.saturation, SATURATION),), coloured and not duotone),
        "lightness": ((_share(finish.lightness, LIGHTNESS),), not duotone),
        "contrast": ((_share(finish.contrast, CONTRAST),), not duotone and coloured),
        "duotone": ((float(duotone),), True),
        "dark": (finish.dark, duotone),
        "light": (finish.light, duotone and coloured),
        "outline": ((finish.outline / OUTLINE[1],), True),
        "outline_colour": (finish.outline_colour, finish.outline > 0),
        "ground": (finish.ground, True),
        "surface": (surface, True),
        "degree": ((finish.degree,), finish.surface != "flat"),
    }


def _share(value: float, limits: tuple[float, float]) -> float:
    low, high = limits
    return (value - low) / (high - low)


def finish_errors(read: Tensor, values: Tensor, traces: Tensor) -> Tensor:
    """Returns the mean error over the parameters that leave a trace, in [0, 1], `(B,)`; arguments are `(B, SIZE)`."""
    errors, counts = torch.zeros(len(read)), torch.zeros(len(read))
    start = 0
    for name, size in PARAMETERS.items():
        part = slice(start, start + size)
        trace = traces[:, start].float()
        errors += _error(name, read[:, part], values[:, part]) * trace
        counts += trace
        start += size
    return errors / counts.clamp(min=1)


def _error(name: str, read: Tensor, values: Tensor) -> Tensor:
    """Returns one parameter's error `(B,)`: an angle as a share of half a circle, a kind as 0 or 1."""
    if name == "hue":
        angle = torch.atan2(read[:, 1], read[:, 0]) - torch.atan2(values[:, 1], values[:, 0])
        return torch.remainder(angle + math.pi, 2 * math.pi).sub(math.pi).abs() / math.pi
    if name == "surface":
        return (read.argmax(1) != values.argmax(1)).float()
    return (read - values).abs().clamp(max=1).mean(1)
