"""The encoder of drawings."""

from __future__ import annotations

import torch

from pmg.looks.models.trunk import OCTAVES, colour_waves
from pmg.models.tiny_models import tiny_scorer


def test_colour_waves_keep_the_colour_and_tell_near_ones_apart():
    one, near = torch.zeros(1, 3, 1, 1), torch.full((1, 3, 1, 1), 8 / 127.5)
    assert colour_waves(one).shape == (1, 3 * (1 + 2 * OCTAVES), 1, 1)
    assert torch.equal(colour_waves(one)[:, :3], one)
    assert (colour_waves(one) - colour_waves(near)).abs().max() > 1


def test_scorer_sees_each_image_alone():
    images, scorer = torch.rand(3, 3, 64, 64) * 2 - 1, tiny_scorer()
    together, alone = scorer(images), scorer(images[1:2])
    assert all(torch.allclose(a[1:2], b, atol=1e-5) for a, b in zip(together, alone, strict=True))


def test_scorer_vectors_have_length_one():
    for vectors in tiny_scorer()(torch.rand(2, 3, 64, 64)):
        assert torch.allclose(vectors.norm(dim=-1), torch.ones(2))
