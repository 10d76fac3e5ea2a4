"""The trained prefix: shape, size, and what its parts depend on."""

from __future__ import annotations

import pytest
import torch

from pmg.models.preference.prefix_placement import Prefix


@pytest.mark.parametrize("hidden", [None, 16])
def test_prefix_is_small_shaped_for_the_cache_and_trainable(hidden):
    torch.manual_seed(0)
    prefix = Prefix(layers=3, kv_heads=2, head_dim=8, length=5, hidden=hidden)
    pairs = prefix()
    assert pairs.shape == (3, 2, 2, 5, 8)
    assert 0 < pairs.std() < 0.2
    pairs.pow(2).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in prefix.parameters())


def test_plain_prefix_has_the_size_of_its_pairs():
    assert sum(parameter.numel() for parameter in Prefix(3, 2, 8, 5).parameters()) == 3 * 2 * 2 * 5 * 8


def test_every_position_of_the_prefix_depends_on_its_own_pair_alone():
    prefix = Prefix(layers=2, kv_heads=1, head_dim=4, length=3)
    before = prefix().detach().clone()
    with torch.no_grad():
        prefix.pairs[1] += 1
    changed = (prefix() != before).flatten(0, 2).any(dim=-1).any(dim=0)
    assert changed.tolist() == [False, True, False]
