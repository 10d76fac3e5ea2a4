"""The style encoder reads a set of pictures: their order and absent ones make no difference."""

from __future__ import annotations

import pytest
import torch

from pmg.looks.models.style_encoder import StyleEncoder


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return StyleEncoder(in_channels=4, channels=16, tokens=3, width=24, heads=2).eval()


@pytest.fixture
def latents():
    return torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(1))


def test_tokens_have_their_shape_and_unit_variance(encoder, latents):
    tokens = encoder(latents)
    assert tokens.shape == (2, 3, 24)
    assert torch.allclose(tokens.var(-1, unbiased=False), torch.ones(2, 3), atol=1e-2)


def test_the_order_of_references_makes_no_difference(encoder, latents):
    assert torch.allclose(encoder(latents), encoder(latents[:, [2, 0, 1]]), atol=1e-5)


def test_absent_references_are_not_read(encoder, latents):
    present = torch.tensor([[True, True, False]] * 2)
    changed = latents.clone()
    changed[:, 2] = 100
    assert torch.allclose(encoder(latents, present), encoder(changed, present), atol=1e-5)
    assert torch.allclose(encoder(latents, present), encoder(latents[:, :2]), atol=1e-5)


def test_it_is_saved_and_loaded_without_loss(encoder, latents, tmp_path):
    encoder.save_pretrained(tmp_path)
    assert torch.equal(StyleEncoder.from_pretrained(tmp_path)(latents), encoder(latents))
