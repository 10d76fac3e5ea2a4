"""Blocks of a condition: joined, stacked, repeated, weighed and dropped."""

from __future__ import annotations

import torch

from pmg.models.diffusion.conditioning import Block, SoftBlock, drop_target, join, stack


def block(batch, length, seed=0):
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randn(batch, length, 8, generator=random)
    return Block(tokens, torch.ones(batch, length, dtype=torch.bool), torch.randn(batch, 8, generator=random))


def test_join_keeps_order_and_the_targets_pooled_vector():
    target, preference = block(2, 3), block(2, 2, 1)
    condition = join(target, preference)
    assert torch.equal(condition.tokens, torch.cat([target.tokens, preference.tokens], 1))
    assert torch.equal(condition.pooled, target.pooled)


def test_scaling_multiplies_each_row_by_its_weight():
    one = block(2, 3)
    scaled = one.scaled(torch.tensor([0.5, 2.0]))
    assert torch.allclose(scaled.tokens[0], one.tokens[0] * 0.5)
    assert torch.allclose(scaled.tokens[1], one.tokens[1] * 2)


def test_dropped_target_is_the_empty_text():
    target, empty = block(2, 4), block(1, 2, 1)
    dropped = drop_target(target, empty, torch.tensor([True, False]))
    assert torch.equal(dropped.tokens[0], target.tokens[0])
    assert torch.equal(dropped.tokens[1, :2], empty.tokens[0])
    assert dropped.mask[1].tolist() == [True, True, False, False]
    assert torch.equal(dropped.pooled[1], empty.pooled[0])


def test_stack_pads_the_shorter_condition():
    both = stack([join(block(1, 2)), join(block(1, 5, 1))])
    assert both.tokens.shape == (2, 5, 8)
    assert both.mask.sum(1).tolist() == [2, 5]
    assert stack([join(block(1, 2), block(1, 3)), join(block(1, 4))]).target_length.tolist() == [2, 4]


def test_repeat_keeps_a_rows_copies_together():
    one = block(2, 3)
    assert torch.equal(one.repeat(2).tokens[:2], one.tokens[:1].expand(2, -1, -1))


def test_bias_goes_where_its_tokens_go():
    plain, weighed = block(2, 3), block(2, 2, 1).with_attention_bias(torch.tensor([1.0, 4.0]))
    assert join(plain, plain).bias is None
    condition = join(plain, weighed.repeat(1)[torch.tensor([1, 0])])
    expected = torch.tensor([[0.0, 0, 0, 4, 4], [0, 0, 0, 1, 1]]).clamp(min=1).log()
    assert torch.allclose(condition.bias, expected)
    both = stack([join(block(1, 6)), join(weighed.expand(2)[:1])])
    assert torch.equal(both.bias, torch.zeros(2, 6))
    assert torch.allclose(weighed.padded(4).bias[1], torch.tensor([4.0, 4, 1, 1]).log())


def test_soft_tokens_of_weight_zero_are_in_no_mean():
    soft = SoftBlock.of(torch.ones(2, 3, 8)).with_attention_bias(torch.tensor([0.0, 0.5]))
    assert soft.mean()[:, 0].tolist() == [0, 1]
    assert soft.mask.any(1).tolist() == [False, True]


def test_weight_of_zero_has_a_finite_bias():
    bias = block(1, 2).with_attention_bias(torch.zeros(1)).bias
    assert bias.isfinite().all()
    assert bias.exp().max() < 1e-40
