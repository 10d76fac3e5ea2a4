"""Image prompts: means of the history, each user alone, a saved encoder says the same."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from pmg.data.dataset import liked_with_image
from pmg.methods.image_prompt import ImagePromptEncoder, build_image_prompt
from pmg.models.preference.token_encoder import UserFeatures
from pmg.models.tiny_models import tiny_scorer
from pmg.training.encoder_inputs import ImageFeatures
from pmg.training.memory_forecast import empty_encoder


@pytest.fixture
def found():
    """Features of three users."""
    return UserFeatures(torch.randn(3, 384, generator=torch.Generator().manual_seed(0)))


def test_features_are_means_over_a_users_own_images(shop):
    examples = shop.examples("test", users=3, targets=1)
    liked = {one.profile: liked_with_image(shop.images, one) for one in examples}
    found = ImageFeatures(tiny_scorer())(SimpleNamespace(profiles=[*liked]), examples, shop.images)
    pictures = [shop.images.pixels(shop.images.rows(items)) for items in liked.values()]
    expected = torch.stack([tiny_scorer()(images)[1].mean(0) for images in pictures])
    assert torch.allclose(found.vectors, expected, atol=1e-5)
    assert torch.equal(found.select([2, 0]).vectors, found.vectors[[2, 0]])


def test_each_user_alone_as_in_the_batch_and_after_saving(found, tmp_path):
    encoder = build_image_prompt(None, torch.randn(50, 16), found, soft_tokens=3)
    together = encoder.encode(None, found)
    assert together.shape == (3, 3, 16)
    assert torch.allclose(encoder.encode(None, found.select([1])), together[1:2], atol=1e-6)
    encoder.save_pretrained(tmp_path)
    again = ImagePromptEncoder.from_pretrained(tmp_path).eval()
    assert torch.equal(again.encode(None, found), together)


def test_features_follow_the_encoder_to_its_device(found):
    encoder = build_image_prompt(None, torch.randn(50, 16), found).to("meta")
    assert encoder.states(None, found).device == encoder(None, found).device == torch.device("meta")


def test_features_are_standardised_over_users(found):
    standardised = build_image_prompt(None, torch.randn(50, 16), found).standardize(found.vectors)
    torch.testing.assert_close(standardised.mean(0), torch.zeros(384), atol=1e-4, rtol=0)
    torch.testing.assert_close(standardised.std(0), torch.ones(384), atol=1e-2, rtol=0)


def test_tokens_start_on_the_scale_of_words(found):
    words = torch.randn(500, 16) * 3 + 5
    encoder = build_image_prompt(None, words, found, soft_tokens=64)
    tokens = encoder.encode(None, found).flatten(0, 1)
    assert tokens.mean() == pytest.approx(5, abs=0.5)
    assert 1 < tokens.std() < 6


@pytest.mark.slow
def test_its_training_is_forecast(compose):
    from pmg.commands.estimate import empty_models

    language_model, _, _, sizes = empty_models(compose("estimate", "preference_encoder=image_prompt"))
    assert isinstance(empty_encoder(language_model, sizes), ImagePromptEncoder)
