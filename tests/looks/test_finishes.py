"""Finishes: closed forms on simple shapes, and invariances."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import avg_pool2d

from pmg.looks.finishes import (
    AS_DRAWN,
    Finish,
    FinishBatch,
    apply_finishes,
    fill_holes,
    hsl_to_rgb,
    outline_mask,
    rgb_to_hsl,
)

RED, SIZE = (255, 0, 0), 64


def square(colour=RED, hole=False):
    """A square of 32 pixels in the middle of nothing, uint8 `(4, 64, 64)`; a frame of 4 pixels with a hole."""
    drawing = torch.zeros(4, SIZE, SIZE, dtype=torch.uint8)
    drawing[:3, 16:48, 16:48] = torch.tensor(colour, dtype=torch.uint8).view(3, 1, 1)
    drawing[3, 16:48, 16:48] = 255
    if hole:
        drawing[3, 20:44, 20:44] = 0
    return drawing


def finished(finish, drawing=None):
    """One picture `(3, 64, 64)` in [0, 1]."""
    return apply_finishes((square() if drawing is None else drawing)[None], FinishBatch.stack([finish]))[0]


def pixel(picture, y, x):
    return [round(value, 2) for value in picture[:, y, x].tolist()]


def test_as_drawn_is_the_drawing_on_white():
    picture = finished(AS_DRAWN)
    assert pixel(picture, 32, 32) == [1, 0, 0]
    assert pixel(picture, 0, 0) == [1, 1, 1]


@pytest.mark.parametrize(("turn", "colour"), [(120, [0, 1, 0]), (240, [0, 0, 1]), (360, [1, 0, 0]), (60, [1, 1, 0])])
def test_hue_turns_the_circle(turn, colour):
    assert pixel(finished(Finish(hue=turn)), 32, 32) == colour


def test_no_saturation_is_grey_and_lightness_reaches_white_and_black():
    grey = pixel(finished(Finish(saturation=0.0)), 32, 32)
    assert len(set(grey)) == 1
    assert pixel(finished(Finish(lightness=1.0)), 32, 32) == [1, 1, 1]
    assert pixel(finished(Finish(lightness=-1.0)), 32, 32) == [0, 0, 0]


def test_duotone_maps_black_and_white_to_its_colours():
    finish = Finish(duotone=1.0, dark=(0.2, 0.0, 0.4), light=(1.0, 0.8, 0.6))
    assert pixel(finished(finish, square((0, 0, 0))), 32, 32) == [0.2, 0.0, 0.4]
    assert pixel(finished(finish, square((255, 255, 255))), 32, 32) == [1.0, 0.8, 0.6]


def test_ground_is_seen_where_nothing_is_drawn():
    assert pixel(finished(Finish(ground=(0.0, 0.2, 0.4))), 2, 2) == [0.0, 0.2, 0.4]


@pytest.mark.parametrize("width", [2.0, 3.0, 4.0])
def test_outline_has_its_width_and_colour(width):
    picture = finished(Finish(outline=width, outline_colour=(0.0, 0.0, 1.0)))
    blue = (picture[:, 32] == torch.tensor([0.0, 0.0, 1.0])[:, None]).all(0)
    assert int(blue[:16].sum()) == width
    assert pixel(picture, 32, 16) == [1, 0, 0]


@pytest.mark.parametrize(
    "finish",
    [
        Finish(outline=2.5, outline_colour=(0.0, 0.0, 1.0)),
        Finish(surface="halftone", degree=0.5),
        Finish(surface="pixels", degree=0.5),
        Finish(surface="paper", degree=1.0),
    ],
)
def test_a_larger_drawing_has_the_same_finish(finish):
    large = square().repeat_interleave(4, 1).repeat_interleave(4, 2)
    reduced = avg_pool2d(finished(finish, large)[None], 4)[0]
    assert (reduced - finished(finish)).abs().mean() < 0.02


def test_the_outline_of_a_larger_drawing_is_sharp():
    large = square().repeat_interleave(4, 1).repeat_interleave(4, 2)
    picture = finished(Finish(outline=3.0, outline_colour=(0.0, 0.0, 1.0)), large)
    assert [pixel(picture, 128, 64 - away) for away in (1, 12, 14)] == [[0, 0, 1], [0, 0, 1], [1, 1, 1]]


def test_no_outline_surrounds_nothing_in_a_larger_drawing():
    empty = torch.zeros(4, 4 * SIZE, 4 * SIZE, dtype=torch.uint8)
    assert finished(Finish(outline=4.0), empty).eq(1).all()


def test_outline_leaves_the_inside_of_a_line_drawing_free():
    picture = finished(Finish(outline=4.0, outline_colour=(0.0, 0.0, 1.0)), square(hole=True))
    assert pixel(picture, 32, 32) == [1, 1, 1]
    assert pixel(picture, 32, 14) == [0, 0, 1]


def test_holes_are_filled_and_bays_are_not():
    closed = square(hole=True)[None, 3:].float() / 255
    assert fill_holes(closed)[0, 0, 32, 32] == 1
    bay = closed.clone()
    bay[..., 30:34, :24] = 0
    assert fill_holes(bay)[0, 0, 32, 32] == 0


def test_no_outline_where_the_width_is_zero():
    alpha = torch.ones(2, 1, 16, 16)
    alpha[..., :4, :] = 0
    mask = outline_mask(alpha, torch.tensor([0.0, 2.0]))
    assert mask[0].abs().max() == 0
    assert mask[1].max() == 1


def test_pixel_art_has_blocks_of_one_colour():
    picture = finished(Finish(surface="pixels", degree=0.5), square((10, 200, 30)))  # 16 blocks of 4 pixels
    blocks = picture.unfold(1, 4, 4).unfold(2, 4, 4)
    assert (blocks - blocks[..., :1, :1]).abs().max() == 0


def test_halftone_changes_the_drawing_alone_and_paper_changes_all():
    plain = finished(AS_DRAWN, square((120, 120, 120)))
    dots = finished(Finish(surface="halftone", degree=0.5), square((120, 120, 120)))
    assert torch.equal(dots[:, :16], plain[:, :16])
    assert dots[:, 20:44, 20:44].unique().numel() > 5
    for ground in ((1.0, 1.0, 1.0), (0.05, 0.05, 0.05)):
        paper = finished(Finish(surface="paper", degree=0.5, ground=ground))
        assert float(paper[:, :8].std()) > 0.01


def test_hsl_is_inverted():
    colours = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(hsl_to_rgb(*rgb_to_hsl(colours)), colours, atol=1e-5)


def test_a_picture_does_not_depend_on_its_batch():
    finishes = [
        Finish(hue=40, outline=1.7, surface="paper", degree=0.3),
        Finish(duotone=1.0, outline=4.0, surface="halftone", degree=0.9),
        Finish(surface="pixels", degree=0.7),
    ]
    drawings = torch.stack([square(), square((9, 80, 200)), square(hole=True)])
    together = apply_finishes(drawings, FinishBatch.stack(finishes))
    for row, finish in enumerate(finishes):
        assert torch.equal(together[row], finished(finish, drawings[row]))
