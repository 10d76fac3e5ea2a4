"""The measuring captioner on simple drawings under known finishes."""

from __future__ import annotations

import pytest
import torch

from pmg.domain import PmgError
from pmg.looks.finishes import Finish, FinishBatch, apply_finishes
from pmg.looks.measured_captions import COLOURS, MeasuringCaptioner, name_colours

CAPTIONER = MeasuringCaptioner("{ground}, {palette}, {colour}, {outline}, {surface}, {shading}")


def disc(colour=(60, 160, 60), inner=(250, 220, 60), line=False):
    """A disc with a smaller one in it, or a ring, uint8 `(4, 64, 64)`."""
    y, x = torch.meshgrid(torch.arange(64) - 31.5, torch.arange(64) - 31.5, indexing="ij")
    away = torch.hypot(x, y)
    drawing = torch.zeros(4, 64, 64, dtype=torch.uint8)
    drawing[:3] = torch.tensor(colour, dtype=torch.uint8).view(3, 1, 1)
    drawing[:3, away < 12] = torch.tensor(inner, dtype=torch.uint8).view(3, 1)
    drawing[3] = ((away < 24) & ((away > 20) | (not line))).byte() * 255
    return drawing


def words(finish, drawing=None):
    picture = apply_finishes((disc() if drawing is None else drawing)[None], FinishBatch.stack([finish]))
    return CAPTIONER.describe(picture * 2 - 1)[0]


@pytest.mark.parametrize(
    ("ground", "name"),
    [
        ((1.0, 1.0, 1.0), "white ground"),
        ((0.02, 0.02, 0.02), "black ground"),
        ((0.08, 0.08, 0.35), "dark blue ground"),
        ((0.85, 0.95, 0.85), "pale green ground"),
    ],
)
def test_ground(ground, name):
    assert words(Finish(ground=ground, outline=2, outline_colour=(1.0, 1.0, 1.0)))["ground"] == name


@pytest.mark.parametrize(
    ("finish", "name"),
    [
        (Finish(), "no outline"),
        (Finish(outline=4, outline_colour=(0.0, 0.0, 0.0)), "thick black outline"),
        (Finish(outline=1.5, outline_colour=(0.9, 0.1, 0.1)), "thin red outline"),
        (Finish(outline=3.5, outline_colour=(0.1, 0.2, 0.9)), "thick blue outline"),
    ],
)
def test_outline(finish, name):
    assert words(finish)["outline"] == name


@pytest.mark.parametrize("degree", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(
    ("surface", "name"),
    [
        ("flat", "smooth surface"),
        ("halftone", "halftone dots"),
        ("pixels", "pixel art"),
        ("paper", "paper grain"),
    ],
)
def test_surface(surface, degree, name):
    assert words(Finish(surface=surface, degree=degree))["surface"] == name


def test_colours_follow_the_hue_and_the_saturation():
    assert words(Finish())["colour"] == "green"
    assert words(Finish(hue=240))["colour"] in ("orange", "red", "brown")
    assert words(Finish(saturation=0.0))["palette"] == "grey tones"
    two_tone = Finish(duotone=1.0, dark=(0.3, 0.0, 0.4), light=(0.9, 0.8, 0.5))
    assert words(two_tone)["palette"] == "two tones"


def test_line_drawings_are_told_from_shapes():
    assert words(Finish(), disc(line=True))["shading"] == "line drawing"
    assert words(Finish())["shading"] == "flat shapes"


def test_the_caption_is_the_template_and_labels_are_not_read():
    picture = apply_finishes(disc()[None], FinishBatch.stack([Finish()])) * 2 - 1
    assert CAPTIONER([None], picture) == [", ".join(CAPTIONER.describe(picture)[0].values())]


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ((0.9, 0.1, 0.1), "red"), ((1.0, 0.6, 0.0), "orange"), ((1.0, 0.95, 0.1), "yellow"),
        ((0.1, 0.7, 0.2), "green"),
        ((0.1, 0.8, 0.8), "turquoise"), ((0.1, 0.3, 0.9), "blue"), ((0.5, 0.2, 0.8), "violet"),
        ((1.0, 0.6, 0.8), "pink"), ((0.45, 0.28, 0.12), "brown"), ((0.5, 0.5, 0.5), "grey"),
        ((0.05, 0.05, 0.05), "black"), ((0.97, 0.97, 0.97), "white"),
    ],
)  # fmt: skip
def test_colour_names(colour, name):
    assert COLOURS[int(name_colours(torch.tensor([colour]))[0])] == name


def test_an_unknown_name_in_the_template_is_refused():
    with pytest.raises(PmgError, match=r"captioner.template: 'colours' is not measured; did you mean 'colour'\?"):
        MeasuringCaptioner("{ground}, {colours}")
