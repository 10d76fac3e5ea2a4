"""The weight of a token in cross-attention: that many copies of it, in any batch and precision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pmg.models.diffusion.conditioning import Block, join

STEP = torch.tensor([500, 500])


@pytest.fixture
def predict(generator):
    """Predicts for fixed noise from a target block and preference blocks."""
    noisy = torch.randn(2, *generator.latent_shape, generator=torch.Generator().manual_seed(0))
    return lambda *blocks: generator.predict(noisy, STEP, join(*blocks))


@pytest.fixture
def blocks(generator):
    """A target and a preference of other length, both with hidden tokens; large, so that attention is uneven."""
    encode = generator.text_encoder.encode
    target, preference = encode(["red apple", "dog"]), encode(["flat", "thick black outline, soft gradients"])
    return target, replace(preference, tokens=4 * preference.tokens)


def doubled(block):
    """Every token twice."""
    return Block(torch.cat([block.tokens] * 2, 1), torch.cat([block.mask] * 2, 1), block.pooled)


@pytest.mark.parametrize(
    ("weight", "equal"),
    [
        (1.0, lambda target, preference: (target, preference)),
        (0.0, lambda target, preference: (target,)),
        (2.0, lambda target, preference: (target, doubled(preference))),
        (4.0, lambda target, preference: (target, doubled(doubled(preference)))),
    ],
)
def test_weight_is_a_number_of_copies(predict, blocks, weight, equal):
    target, preference = blocks
    weighed = predict(target, preference.with_attention_bias(torch.full((2,), weight)))
    assert torch.allclose(weighed, predict(*equal(target, preference)), atol=1e-5)


def test_weights_differ_between_rows(predict, blocks):
    target, preference = blocks
    mixed = predict(target, preference.with_attention_bias(torch.tensor([2.0, 0.0])))
    assert torch.allclose(mixed[0], predict(target, doubled(preference))[0], atol=1e-5)
    assert torch.allclose(mixed[1], predict(target)[1], atol=1e-5)
    assert not torch.allclose(mixed, predict(target, preference), atol=1e-3)


@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0])
def test_a_block_without_others_has_all_attention_at_any_weight(predict, blocks, weight):
    target, _ = blocks
    assert torch.allclose(predict(target.with_attention_bias(torch.full((2,), weight))), predict(target), atol=1e-5)


def test_weight_survives_half_precision(generator, blocks):
    target, preference = blocks
    generator.denoiser.model.bfloat16()
    noisy = torch.randn(2, *generator.latent_shape, dtype=torch.bfloat16)

    def low(*parts):
        return generator.predict(
            noisy, STEP, join(*(replace(p, tokens=p.tokens.bfloat16(), pooled=p.pooled.bfloat16()) for p in parts))
        )

    plain, weighed = low(target, preference), low(target, preference.with_attention_bias(torch.full((2,), 4.0)))
    copies = low(target, doubled(doubled(preference)))
    assert (weighed - copies).abs().mean() < (weighed - plain).abs().mean() / 2
