"""The encoder of drawings."""

from __future__ import annotations

import torch

from pmg.models.loading.tiny_models import tiny_judge, tiny_scorer
from pmg.models.vision.backbones import OCTAVES, colour_waves


def test_colour_waves_keep_the_colour_and_tell_near_ones_apart():
    one, near = torch.zeros(1, 3, 1, 1), torch.full((1, 3, 1, 1), 8 / 127.5)
    assert colour_waves(one).shape == (1, 3 * (1 + 2 * OCTAVES), 1, 1)
    assert torch.equal(colour_waves(one)[:, :3], one)
    assert (colour_waves(one) - colour_waves(near)).abs().max() > 1


def test_judge_and_scorer_see_each_image_alone():
    images = torch.rand(3, 3, 64, 64) * 2 - 1
    for model in (tiny_judge(["a", "b"], ["x", "y", "z"]), tiny_scorer()):
        together, alone = model(images), model(images[1:2])
        assert all(torch.allclose(a[1:2], b, atol=1e-5) for a, b in zip(together, alone, strict=True))


def test_saved_judge_is_the_same_and_knows_its_classes(tmp_path):
    judge = tiny_judge(["a", "b"], ["x", "y", "z"])
    judge.save_pretrained(tmp_path)
    again = type(judge).from_folder(str(tmp_path))
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    assert (again.styles, again.concepts) == (["a", "b"], ["x", "y", "z"])
    assert all(torch.equal(a, b) for a, b in zip(judge(images), again(images), strict=True))


def test_scorer_vectors_have_length_one():
    for vectors in tiny_scorer()(torch.rand(2, 3, 64, 64)):
        assert torch.allclose(vectors.norm(dim=-1), torch.ones(2))
