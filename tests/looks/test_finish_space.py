"""What training may see of the space of finishes, and what it may not."""

from __future__ import annotations

import random

import pytest

from looks import ALL_SEEN, SHARES, SPACE
from pmg.domain import PmgError
from pmg.looks.finish_space import FinishSpace, brightness, traits
from pmg.looks.finishes import AS_DRAWN, Finish


@pytest.mark.parametrize("seen", [True, False])
def test_finishes_are_drawn_from_their_side(seen):
    rng = random.Random(0)
    drawn = [SPACE.sample(rng, seen) for _ in range(300)]
    assert all(SPACE.is_seen(finish) == seen for finish in drawn)
    if not seen:  # both kinds of unseen region occur
        pairs = sum({"dark", "pixels"} <= traits(finish) for finish in drawn)
        assert 30 < pairs < 270


@pytest.mark.parametrize(
    ("finish", "seen"),
    [
        (Finish(hue=100), False),
        (Finish(hue=121), True),
        (Finish(hue=100, saturation=0.0), True),  # a grey drawing has no hue
        (Finish(hue=100, duotone=1.0), True),
        (Finish(ground=(0.1, 0.1, 0.1), surface="pixels"), False),
        (Finish(ground=(0.1, 0.1, 0.1)), True),
    ],
)
def test_regions_have_their_borders(finish, seen):
    assert SPACE.is_seen(finish) == seen


def test_variation_is_small_and_keeps_kind_and_side():
    rng = random.Random(1)
    for _ in range(200):
        seen = rng.random() < 0.5
        centre = SPACE.sample(rng, seen)
        near = SPACE.vary(centre, rng, 0.02)
        assert SPACE.is_seen(near) == seen
        assert near.surface == centre.surface
        assert (near.outline > 0) == (centre.outline > 0)
        assert abs(near.degree - centre.degree) < 0.1
        assert abs(brightness(near.ground) - brightness(centre.ground)) < 0.2
    assert SPACE.vary(centre, rng, 0.0) == centre


def test_drawings_on_dark_grounds_keep_a_visible_edge():
    rng = random.Random(2)
    for _ in range(300):
        finish = SPACE.sample(rng)
        if "dark" in traits(finish):
            assert finish.outline > 0 or finish.duotone == 1.0


def test_the_same_seed_gives_the_same_finishes():
    first, second = ([SPACE.sample(rng) for _ in range(20)] for rng in (random.Random(5), random.Random(5)))
    assert first == second


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"palette": {"duo": 1}}, r"data.space.palette: 'duo'; did you mean 'duotone'\?"),
        ({"surface": {"flat": 0}}, "data.space.surface: all weights are 0"),
        ({"unseen_pairs": [["dark", "pixel"]]}, r"data.space.unseen_pairs: 'pixel'; did you mean 'pixels'\?"),
        ({"unseen_hues": [[80, 120, 140]]}, r"data.space.unseen_hues: an arc has two ends"),
    ],
)
def test_unknown_kinds_are_refused(changes, message):
    regions = {"unseen_hues": [[80, 120]], "unseen_pairs": []}
    with pytest.raises(PmgError, match=message):
        FinishSpace(**{**SHARES, **regions, **changes})


@pytest.mark.parametrize("arc", [[350, 10], [350, 370]])
def test_an_arc_may_go_through_zero(arc):
    space = FinishSpace(**SHARES, unseen_hues=[arc], unseen_pairs=[])
    for hue, seen in [(349, True), (350, False), (359, False), (0, False), (9, False), (10, True), (180, True)]:
        assert space.is_seen(Finish(hue=hue)) == seen
    rng = random.Random(0)
    hues = [space.sample(rng, seen=False).hue % 360 for _ in range(50)]
    assert all(hue >= 350 or hue < 10 for hue in hues)
    assert min(hues) < 10 < 350 < max(hues)


def test_a_space_without_unseen_regions_has_no_unseen_finish():
    with pytest.raises(PmgError, match="none of 10000 random finishes is unseen"):
        ALL_SEEN.sample(random.Random(0), seen=False)


def test_a_share_of_finishes_changes_nothing_and_of_unseen_ones_none():
    space = FinishSpace(**SHARES, unseen_hues=[[80, 120]], unseen_pairs=[], unchanged=0.4)
    rng = random.Random(0)
    as_drawn = sum(space.sample(rng) == AS_DRAWN for _ in range(500))
    assert 150 < as_drawn < 250
    assert all(space.sample(rng, seen=False) != AS_DRAWN for _ in range(100))
    assert all(SPACE.sample(rng) != AS_DRAWN for _ in range(100))
