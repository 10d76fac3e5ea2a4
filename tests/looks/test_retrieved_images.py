"""Retrieval: another artist's drawing of the target, under the finish of the history."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d

from pmg.domain import PmgError
from pmg.looks.retrieved_images import KnownPictures, RetrievedImages


class ColourEncoder:
    """The mean colours of sixteen parts of a picture."""

    are_tokens = True

    def __call__(self, pictures):
        return adaptive_avg_pool2d(pictures, 4).flatten(1)


@pytest.fixture(scope="module")
def source(looks):
    return RetrievedImages(looks, ColourEncoder(), known=120)


@pytest.mark.ci
@pytest.mark.slow
def test_the_drawing_is_of_the_target_by_another_artist_and_never_held_out(looks):
    examples = looks.examples("test", users=4, targets=1)
    rows = RetrievedImages(looks, ColourEncoder(), known=24)(SimpleNamespace(examples=examples, images=looks.images))
    drawings, known = looks.drawings, KnownPictures(looks, ColourEncoder(), 24, 0)
    for example, row in zip(examples, rows, strict=True):
        found = row(example.target)
        assert found.shape == (3, looks.images.size, looks.images.size)
        assert found.abs().max() <= 1
        truth = looks.images.picture(example.target).row
        allowed = [
            other
            for other, item in enumerate(drawings.items)
            if item.concept == example.target.concept and looks.splits[other] == "train"
        ]
        assert truth not in allowed
        finishes = known.finishes
        shown = [drawings.pictures(torch.tensor([other] * len(finishes)), finishes) for other in allowed]
        assert (torch.cat(shown) == found).flatten(1).all(1).any()


def test_the_finish_is_that_of_the_history(looks, source):
    """Histories on dark grounds give dark grounds, however few pictures are known."""
    examples = looks.examples("test", users=60, targets=1)
    rows = source(SimpleNamespace(examples=examples, images=looks.images))

    def corner(pictures):
        return pictures[..., :4, :4].mean((-3, -2, -1))

    own = torch.stack([corner(looks.images.pixels(looks.images.rows(one.liked))).median() for one in examples])
    found = torch.stack([corner(row(one.target)) for row, one in zip(rows, examples, strict=True)])
    assert torch.corrcoef(torch.stack([own, found]))[0, 1] > 0.6


def test_users_without_pictures_and_targets_of_nobody_else(looks, source, monkeypatch):
    example = looks.examples("test", users=1, targets=1)[0]
    (row,) = source(SimpleNamespace(examples=[replace(example, history=())], images=looks.images))
    assert row(example.target).isfinite().all()
    monkeypatch.setattr(looks.drawings, "row", {})
    with pytest.raises(PmgError, match=f"no other artist drew '{example.target.title}'"):
        row(example.target)
