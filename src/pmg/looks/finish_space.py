"""The space of finishes: how they are drawn at random, how they vary, and which regions training never sees."""

from __future__ import annotations

import colorsys
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pmg.configuration.instantiate import nearest
from pmg.configuration.ranges import Fraction, NotNegative
from pmg.domain import PmgError
from pmg.looks.finishes import BLACK, CONTRAST, LIGHTNESS, LUMA, OUTLINE, SATURATION, SURFACES, WHITE, Colour, Finish

DARK_GROUND = 0.35  # luma; darker grounds are called dark
MAX_DRAWS = 10_000  # random finishes until one of the wanted part has to be found
PALETTES = ("as_drawn", "turned", "grey", "duotone")
GROUNDS, OUTLINES = ("white", "tint", "dark"), ("none", "contrast", "coloured")
TRAITS = (*GROUNDS, "coloured", "grey", "duotone", "outlined", "plain", *SURFACES)  # that `traits` returns
GREY = 0.2  # saturation factor; below it a drawing is called grey


class FinishSpace:
    """Draws finishes, and separates regions that training must not see.

    The first four are weights, by the names in `PALETTES`, `GROUNDS`, `OUTLINES` and `SURFACES`. Kept from training
    are `unseen_hues`, arcs of the hue turn in degrees, ``[[80, 120], ...]``, where ``[350, 10]`` goes through 0, and
    `unseen_pairs` of traits, ``[["dark", "pixels"], ...]``. A share `unchanged` of the seen ones is
    as drawn, on white. PmgError if a kind or trait is unknown, all weights of a part are 0, or an arc is no pair.
    """

    def __init__(
        self, palette: Mapping[str, NotNegative], ground: Mapping[str, NotNegative],
        outline: Mapping[str, NotNegative], surface: Mapping[str, NotNegative],
        unseen_hues: Sequence[Sequence[NotNegative]], unseen_pairs: Sequence[Sequence[str]],
        *, unchanged: Fraction = 0.0,
    ) -> None:  # fmt: skip
        self.shares = {"palette": palette, "ground": ground, "outline": outline, "surface": surface}
        for (name, weights), kinds in zip(self.shares.items(), (PALETTES, GROUNDS, OUTLINES, SURFACES), strict=True):
            _check_names(name, weights, kinds)
            if not any(weights.values()):
                raise PmgError(f"data.space.{name}: all weights are 0. Give one of them a weight above 0")
        for pair in unseen_pairs:
            _check_names("unseen_pairs", pair, TRAITS)
        self.unseen_hues = [_read_arc(arc) for arc in unseen_hues]
        self.unseen_pairs, self.unchanged = [frozenset(pair) for pair in unseen_pairs], unchanged

    def sample(self, rng: random.Random, seen: bool = True) -> Finish:
        """Returns a random finish of the seen or unseen part of the space; PmgError if none was found."""
        if seen and self.unchanged and rng.random() < self.unchanged:
            return Finish()
        for _ in range(MAX_DRAWS):
            finish = self._draw(rng)
            if not seen and rng.random() < 0.5 and self.unseen_hues:
                hue = rng.uniform(*rng.choice(self.unseen_hues)) % 360
                finish = replace(finish, hue=hue, duotone=0.0, saturation=rng.uniform(0.7, 1.5))
            if self.is_seen(finish) == seen:
                return finish
        part = "seen" if seen else "unseen"
        raise PmgError(
            f"data.space: none of {MAX_DRAWS} random finishes is {part}. Change unseen_hues, unseen_pairs or weights"
        )

    def is_seen(self, finish: Finish) -> bool:
        """Returns whether training may use `finish`."""
        has = traits(finish)
        arcs = self.unseen_hues if has.isdisjoint(("duotone", "grey")) else ()
        in_arc = any((finish.hue - low) % 360 < high - low for low, high in arcs)
        return not (in_arc or any(pair <= has for pair in self.unseen_pairs))

    def vary(self, centre: Finish, rng: random.Random, spread: float) -> Finish:
        """Returns a finish near `centre`, of the same surface, on the same side of the border between seen and unseen.

        `spread` is the standard deviation of each parameter, as a share of its range.
        """
        seen = self.is_seen(centre)
        for _ in range(100):
            finish = _jitter(centre, rng, spread)
            if self.is_seen(finish) == seen:
                return finish
        return centre

    def _choose(self, name: str, rng: random.Random) -> Any:
        options = self.shares[name]
        return rng.choices(list(options), weights=list(options.values()))[0]

    def _draw(self, rng: random.Random) -> Finish:
        ground = _ground(self._choose("ground", rng), rng)
        palette = self._choose("palette", rng)
        outline = self._choose("outline", rng)
        dark = brightness(ground) < DARK_GROUND
        if dark and outline == "none" and palette != "duotone":
            outline = "contrast"  # black drawings would vanish
        colour = _outline_colour(outline, dark, rng)
        finish = Finish(
            lightness=rng.uniform(*LIGHTNESS), contrast=rng.uniform(*CONTRAST),
            outline=0.0 if outline == "none" else rng.uniform(*OUTLINE), outline_colour=colour, ground=ground,
            surface=self._choose("surface", rng), degree=rng.random(),
        )  # fmt: skip
        return _colour(finish, palette, dark, rng)


def _read_arc(arc: Sequence[float]) -> tuple[float, float]:
    """Returns the ends of an arc, in degrees, the second one above the first."""
    if len(arc) != 2:
        raise PmgError(f"data.space.unseen_hues: an arc has two ends, in degrees, got {list(arc)}")
    low, high = map(float, arc)
    return low, high if high > low else high + 360


def _check_names(key: str, names: Iterable[str], allowed: Sequence[str]) -> None:
    unknown = [name for name in names if name not in allowed]
    if unknown:
        raise PmgError(f"data.space.{key}: '{unknown[0]}'{nearest(unknown[0], allowed)} (known: {', '.join(allowed)})")


def brightness(colour: Colour) -> float:
    """Returns the luma of a colour, in [0, 1]."""
    return sum(weight * value for weight, value in zip(LUMA, colour, strict=True))


def traits(finish: Finish) -> set[str]:
    """Returns the finish's kind by each of its parts, e.g. ``{"duotone", "dark", "outlined", "pixels"}``."""
    light = brightness(finish.ground)
    ground = "dark" if light < DARK_GROUND else "white" if min(finish.ground) > 0.97 else "tint"
    palette = "duotone" if finish.duotone > 0.5 else "grey" if finish.saturation < GREY else "coloured"
    return {ground, palette, "outlined" if finish.outline > 0 else "plain", finish.surface}


def _hls(hue: float, lightness: float, saturation: float) -> Colour:
    return colorsys.hls_to_rgb(hue % 1, min(max(lightness, 0), 1), min(max(saturation, 0), 1))


def _ground(kind: str, rng: random.Random) -> Colour:
    if kind == "white":
        return WHITE
    if kind == "tint":
        return _hls(rng.random(), rng.uniform(0.8, 0.95), rng.uniform(0.3, 0.9))
    return _hls(rng.random(), rng.uniform(0.06, 0.25), rng.uniform(0.1, 0.8))


def _outline_colour(kind: str, dark_ground: bool, rng: random.Random) -> Colour:
    if kind == "coloured":
        return _hls(rng.random(), rng.uniform(0.45, 0.6), rng.uniform(0.7, 1.0))
    grey = rng.uniform(0.9, 1.0) if dark_ground else rng.uniform(0.0, 0.15)
    return (grey, grey, grey) if kind == "contrast" else BLACK


def _colour(finish: Finish, palette: str, dark: bool, rng: random.Random) -> Finish:
    """Returns a finish with random colours of a palette; `dark` is its ground."""
    match palette:
        case "as_drawn":
            return replace(finish, hue=0.0, saturation=rng.uniform(0.5, SATURATION[1]))
        case "turned":
            return replace(finish, hue=rng.uniform(20, 340), saturation=rng.uniform(0.5, SATURATION[1]))
        case "grey":
            return replace(finish, saturation=rng.uniform(0.0, GREY * 0.9))
    first, second = rng.random(), rng.random()
    low, high = ((0.5, 0.65), (0.8, 0.95)) if dark else ((0.1, 0.35), (0.65, 0.9))
    shade = _hls(first, rng.uniform(*low), rng.uniform(0.4, 1.0))
    light = _hls(second, rng.uniform(*high), rng.uniform(0.4, 1.0))
    return replace(finish, duotone=1.0, dark=shade, light=light)


def _jitter(centre: Finish, rng: random.Random, spread: float) -> Finish:
    def near(value: float, low: float, high: float) -> float:
        """Returns a draw around `value`, in [low, high]."""
        return min(max(rng.gauss(value, spread * (high - low)), low), high)

    def tint(colour: Colour) -> Colour:
        """Returns a draw around a colour, each channel in [0, 1]."""
        return tuple(near(value, 0.0, 1.0) for value in colour)  # type: ignore[return-value]

    return replace(
        centre,
        hue=rng.gauss(centre.hue, spread * 180) % 360 if centre.hue else 0.0,
        saturation=near(centre.saturation, *SATURATION),
        lightness=near(centre.lightness, *LIGHTNESS),
        contrast=near(centre.contrast, *CONTRAST),
        dark=tint(centre.dark) if centre.duotone else centre.dark,
        light=tint(centre.light) if centre.duotone else centre.light,
        outline=near(centre.outline, *OUTLINE) if centre.outline else 0.0,
        outline_colour=tint(centre.outline_colour) if centre.outline else centre.outline_colour,
        ground=centre.ground if centre.ground == WHITE else tint(centre.ground),
        degree=near(centre.degree, 0.0, 1.0),
    )
