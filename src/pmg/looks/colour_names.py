"""Names of colours, as people use them: a closed list of twelve."""

from __future__ import annotations

import torch
from torch import Tensor

from pmg.looks.finishes import rgb_to_hsl

COLOURS = (
    "black", "white", "grey", "red", "orange", "yellow", "green", "turquoise", "blue", "violet", "pink", "brown",
)  # fmt: skip
# upper ends of the hues, in degrees, from red on; pink and brown follow from lightness
HUES = ((15.0, "red"), (42.0, "orange"), (70.0, "yellow"), (160.0, "green"), (195.0, "turquoise"), (250.0, "blue"),
        (290.0, "violet"), (340.0, "pink"), (361.0, "red"))  # fmt: skip


def name_colours(colours: Tensor, plain_below: float = 0.12) -> Tensor:
    """Returns places in `COLOURS`, int64 `(N,)`.

    Args:
        colours: `(N, 3)` in [0, 1].
        plain_below: chroma below which a colour is called black, white or grey.
    """
    hue, saturation, lightness = (part.flatten() for part in rgb_to_hsl(colours[..., None, None]))
    degrees = hue * 360
    chroma = colours.amax(1) - colours.amin(1)
    ends = torch.tensor([end for end, _ in HUES])
    named = torch.tensor([COLOURS.index(name) for _, name in HUES])[torch.bucketize(degrees, ends, right=True)]
    warm = (degrees < 48) | (degrees > 345)
    named = torch.where(warm & (lightness < 0.42) & (saturation < 0.75), COLOURS.index("brown"), named)
    named = torch.where((named == COLOURS.index("red")) & (lightness > 0.72), COLOURS.index("pink"), named)
    neutral = torch.where(lightness < 0.22, COLOURS.index("black"), COLOURS.index("grey"))
    neutral = torch.where(lightness > 0.88, COLOURS.index("white"), neutral)
    plain = (chroma < plain_below) | (lightness < 0.04) | (lightness > 0.985)
    return torch.where(plain, neutral, named)
