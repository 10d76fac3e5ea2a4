"""The small diffusion transformer: its attention is that of diffusers, its cached keys and values change nothing."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

from pmg.domain import PmgError
from pmg.looks.models.pooled_denoiser import PooledTransformer2DModel, PooledTransformerDenoiser
from pmg.models.diffusion.conditioning import Block, Condition

WIDTH = 24


@pytest.fixture
def denoiser():
    torch.manual_seed(0)
    model = PooledTransformer2DModel(
        sample_size=4, in_channels=4, num_layers=2, num_attention_heads=2, attention_head_dim=8,
        caption_channels=WIDTH, pooled_projection_dim=2 * WIDTH,
    )  # fmt: skip
    for block in model.transformer_blocks:  # an untrained cross-attention adds nothing
        torch.nn.init.normal_(block.attn2.to_out[0].weight, std=0.1)
    return PooledTransformerDenoiser(model.eval().requires_grad_(False))


@pytest.fixture
def condition():
    rng = torch.Generator().manual_seed(1)
    block = Block(torch.randn(3, 6, WIDTH, generator=rng), torch.arange(6) < torch.tensor([[6], [2], [4]]))
    weighed = block.with_attention_bias(torch.tensor([1.0, 0.5, 4.0]))
    return Condition(block.tokens, block.mask, torch.randn(3, WIDTH, generator=rng), weighed.bias)


def test_cached_keys_and_values_change_nothing(denoiser, condition):
    noisy = torch.randn(3, *denoiser.latent_shape)
    cached, plain = (denoiser.adapter.prepare(condition, reused=reused) for reused in (True, False))
    assert len(cached["cache"]) == 2
    for time in (900.0, 10.0):
        outputs = [denoiser(noisy, torch.full((3,), time), inputs) for inputs in (cached, plain)]
        torch.testing.assert_close(*outputs)
    other = denoiser(noisy, torch.full((3,), 10.0), denoiser.adapter.prepare(Condition(
        condition.tokens + 1, condition.mask, condition.pooled, condition.bias), reused=True))  # fmt: skip
    assert not torch.allclose(other, outputs[0], atol=1e-3)


def test_attention_is_that_of_diffusers(denoiser, condition):
    plain = copy.deepcopy(denoiser.model)
    for layer in plain.modules():
        if isinstance(layer, Attention):
            layer.set_processor(AttnProcessor2_0())
    noisy, times = torch.randn(3, *denoiser.latent_shape), torch.tensor([900.0, 500.0, 10.0])
    inputs = denoiser.adapter.prepare(condition)
    torch.testing.assert_close(denoiser(noisy, times, inputs), plain(noisy, times, **inputs), atol=1e-5, rtol=1e-4)


def test_a_denoiser_of_another_library_is_refused_with_what_it_has_to_be():
    with pytest.raises(PmgError, match=r"a Linear is none\. Derive it from ModelMixin and ConfigMixin"):
        PooledTransformerDenoiser(torch.nn.Linear(2, 2))
