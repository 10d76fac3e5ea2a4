"""Image prompts: means of the history, each user alone, a saved encoder says the same."""

from __future__ import annotations

import pytest
import torch

from pmg.models.preference.image_prompt import ImagePromptEncoder, build_image_prompt, history_features
from pmg.models.tiny_models import tiny_scorer


@pytest.fixture
def features():
    draws = torch.Generator().manual_seed(0)
    histories = [torch.rand(count, 3, 64, 64, generator=draws) * 2 - 1 for count in (2, 3, 4)]
    return histories, history_features(tiny_scorer(), histories)


def test_features_are_means_over_a_users_own_images(features):
    histories, found = features
    expected = torch.stack([tiny_scorer()(images)[1].mean(0) for images in histories])
    assert torch.allclose(found.vectors, expected, atol=1e-5)
    assert torch.equal(found.select([2, 0]).vectors, found.vectors[[2, 0]])


def test_each_user_alone_as_in_the_batch_and_after_saving(features, tmp_path):
    _, found = features
    encoder = build_image_prompt(None, torch.randn(50, 16), found, soft_tokens=3)
    together = encoder.encode(None, found)
    assert together.shape == (3, 3, 16)
    assert torch.allclose(encoder.encode(None, found.select([1])), together[1:2], atol=1e-6)
    encoder.save_pretrained(tmp_path)
    again = ImagePromptEncoder.from_pretrained(tmp_path).eval()
    assert torch.equal(again.encode(None, found), together)


def test_features_follow_the_encoder_to_its_device(features):
    _, found = features
    encoder = build_image_prompt(None, torch.randn(50, 16), found).to("meta")
    assert encoder.states(None, found).device == encoder(None, found).device == torch.device("meta")


def test_tokens_start_on_the_scale_of_words(features):
    _, found = features
    words = torch.randn(500, 16) * 3 + 5
    encoder = build_image_prompt(None, words, found, soft_tokens=64)
    tokens = encoder.encode(None, found).flatten(0, 1)
    assert tokens.mean() == pytest.approx(5, abs=0.5)
    assert 1 < tokens.std() < 6
