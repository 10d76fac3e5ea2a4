"""Weights of a block: on its tokens, or on their attention."""

from __future__ import annotations

import pytest
import torch

from pmg.generation.condition_weighting import AttentionWeighting, ScaleWeighting
from pmg.models.diffusion.conditioning import Block, join

WEIGHTINGS = [ScaleWeighting(), AttentionWeighting()]


@pytest.fixture
def block():
    return Block(torch.randn(2, 3, 8), torch.tensor([[True, True, False], [True, True, True]]))


def test_scale_touches_tokens_and_attention_touches_logits(block):
    weights = torch.tensor([2.0, 0.5])
    scaled, biased = (weighting(block, weights) for weighting in WEIGHTINGS)
    assert torch.equal(scaled.tokens, block.tokens * weights[:, None, None])
    assert scaled.bias is None
    assert torch.equal(biased.tokens, block.tokens)
    assert torch.allclose(biased.bias.exp(), weights[:, None].expand(2, 3))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_weight_of_one_changes_nothing(weighting, generator):
    target = generator.text_encoder.encode(["red apple", "a dog"])
    soft = Block(torch.randn(2, 2, 32), torch.ones(2, 2, dtype=torch.bool))
    noisy, step, one = torch.randn(2, *generator.latent_shape), torch.tensor([500, 500]), torch.ones(2)
    weighed = generator.predict(noisy, step, join(weighting(target, one), weighting(soft, one)))
    assert torch.equal(weighed, generator.predict(noisy, step, join(target, soft)))
