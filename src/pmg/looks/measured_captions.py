"""A captioner that measures an image and maps the measurements to words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter

import torch
from torch import Tensor

from pmg.configuration.instantiate import nearest
from pmg.domain import Item, PmgError
from pmg.looks.finishes import luma, rgb_to_hsl
from pmg.looks.image_measures import Measures, measure_pictures
from pmg.models.image_passes import fit_size

COLOURS = (
    "black", "white", "grey", "red", "orange", "yellow", "green", "turquoise", "blue", "violet", "pink", "brown",
)  # fmt: skip
# upper ends of the hues, in degrees, from red on; pink and brown follow from lightness
HUES = ((15.0, "red"), (42.0, "orange"), (70.0, "yellow"), (160.0, "green"), (195.0, "turquoise"), (250.0, "blue"),
        (290.0, "violet"), (340.0, "pink"), (361.0, "red"))  # fmt: skip
GROUND_CHROMA = 0.05  # lower than elsewhere, since a large area shows its colour more clearly
NEUTRAL = ("black", "white", "grey")
MEASURED = ("ground", "palette", "colour", "outline", "surface", "shading")
SIZE = 64  # pixels a side of the pictures that the thresholds were chosen on


def name_colours(colours: Tensor, plain_below: float = 0.12) -> Tensor:
    """Returns places in `COLOURS`, int64 `(N,)`, of colours `(N, 3)` in [0, 1]; neutral below a chroma."""
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


@dataclass(frozen=True)
class Thresholds:
    """Thresholds between words; chosen on images of the training split."""

    grain: float = 0.2  # share of the frame that differs from the ground, for paper
    blocks: float = 0.12  # share of change inside of blocks, for pixel art
    dots: float = 0.15  # strength of the pattern, for halftone
    thick: float = 2.6  # pixels from which an outline is called thick
    dark_ground: float = 0.35  # luma below which a ground is called dark
    grey: float = 0.09  # mean chroma below which a drawing has grey tones
    vivid: float = 0.4  # mean chroma from which colours are called vivid
    two_tone: float = 0.985  # share of variance along one line from which a drawing has two tones
    line: float = 0.72  # share of the silhouette below which a drawing is called a line drawing
    soft: float = 9.0  # number of tones from which shading is called soft


class MeasuringCaptioner:
    """Describes a picture on a plain ground by ground, palette, main colour, outline, surface and shading.

    The words depend on the pixels only; no trained model and no label is used. Larger pictures are measured at `SIZE`.
    `template` is a format string over the names in `MEASURED`; PmgError if it has another name.
    """

    needs_images = True
    facts = None

    def __init__(self, template: str, thresholds: Thresholds | None = None) -> None:
        unknown = [name for _, name, _, _ in Formatter().parse(template) if name is not None and name not in MEASURED]
        if unknown:
            raise PmgError(
                f"captioner.template: '{unknown[0]}' is not measured{nearest(unknown[0], MEASURED)} "
                f"(measured: {', '.join(MEASURED)})"
            )
        self.template, self.thresholds = template, thresholds or Thresholds()

    def __call__(self, items: Sequence[Item], images: Tensor | None = None) -> list[str]:
        """Returns one caption an image `(B, 3, H, W)` in [-1, 1]; the items are not used."""
        if images is None:
            raise PmgError("MeasuringCaptioner needs images")
        return [self.template.format_map(words) for words in self.describe(images)]

    def describe(self, images: Tensor) -> list[dict[str, str]]:
        """Returns the words by name for each image `(B, 3, H, W)` in [-1, 1]."""
        images = images.float()
        pictures = ((fit_size(images, SIZE) if images.shape[-1] > SIZE else images) + 1) / 2
        measures = measure_pictures(pictures)
        columns = {
            "ground": self._grounds(measures),
            **self._colours(pictures, measures),
            "outline": self._outlines(measures),
            "surface": self._surfaces(measures),
            "shading": self._shadings(measures),
        }
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _grounds(self, measures: Measures) -> list[str]:
        names = [COLOURS[place] for place in name_colours(measures.ground, plain_below=GROUND_CHROMA).tolist()]
        light = luma(measures.ground[..., None, None]).flatten().tolist()
        words = []
        for name, level in zip(names, light, strict=True):
            if level < self.thresholds.dark_ground:
                words.append("black ground" if name in NEUTRAL else f"dark {name} ground")
            else:
                words.append("white ground" if name in NEUTRAL else f"pale {name} ground")
        return words

    def _colours(self, pictures: Tensor, measures: Measures) -> dict[str, list[str]]:
        palettes, colours = [], []
        for picture, inside, tone in zip(pictures, measures.interior, measures.two_tone.tolist(), strict=True):
            pixels = picture[:, inside].T
            chroma = float((pixels.amax(1) - pixels.amin(1)).mean())
            palettes.append(self._palette(pixels, chroma, tone))
            colours.append(main_colour(pixels))
        return {"palette": palettes, "colour": colours}

    def _palette(self, pixels: Tensor, chroma: float, two_tone: float) -> str:
        lightness = float(rgb_to_hsl(pixels.T[None, :, :, None])[2].mean())
        if chroma < self.thresholds.grey:
            return "grey tones"
        if two_tone > self.thresholds.two_tone:
            return "two tones"
        if chroma >= self.thresholds.vivid:
            return "vivid colours"
        return "pale colours" if lightness > 0.66 else "dark colours" if lightness < 0.36 else "muted colours"

    def _outlines(self, measures: Measures) -> list[str]:
        widths, places = measures.outline.tolist(), name_colours(measures.outline_colour).tolist()
        thick = self.thresholds.thick
        return [
            f"{'thick' if width >= thick else 'thin'} {COLOURS[place]} outline" if width > 0 else "no outline"
            for width, place in zip(widths, places, strict=True)
        ]

    def _surfaces(self, measures: Measures) -> list[str]:
        chosen = torch.zeros(len(measures.grain), dtype=torch.long)
        chosen[measures.dots > self.thresholds.dots] = 1
        chosen[measures.grain > self.thresholds.grain] = 3
        chosen[measures.blockiness < self.thresholds.blocks] = 2
        return [("smooth surface", "halftone dots", "pixel art", "paper grain")[place] for place in chosen.tolist()]

    def _shadings(self, measures: Measures) -> list[str]:
        pairs = zip(measures.fill.tolist(), measures.tones.tolist(), strict=True)
        line, soft = self.thresholds.line, self.thresholds.soft
        return ["line drawing" if fill < line else "soft shading" if n >= soft else "flat shapes" for fill, n in pairs]


def main_colour(pixels: Tensor) -> str:
    """Returns the most frequent colour name of pixels `(N, 3)` in [0, 1].

    A neutral one only where at most a fifth of the pixels has another colour.
    """
    counts = torch.bincount(name_colours(pixels), minlength=len(COLOURS)).float()
    coloured = counts.clone()
    coloured[[COLOURS.index(name) for name in NEUTRAL]] = 0
    return COLOURS[int((coloured if coloured.sum() > 0.2 * counts.sum() else counts).argmax())]
