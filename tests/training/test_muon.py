"""Muon and AdamW as one optimizer: which updates what, what a schedule reaches, and what a saved state restores."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pmg.domain import PmgError
from pmg.training.optim import MuonAdamW, one_cycle


def build():
    torch.manual_seed(0)
    return nn.ModuleDict({"blocks": nn.Linear(8, 8), "out": nn.Linear(8, 2)})


def step(model, *optimizers, seed=0):
    inputs = torch.randn(16, 8, generator=torch.Generator().manual_seed(seed))
    model["out"](model["blocks"](inputs).relu()).pow(2).sum().backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()


def test_matrices_of_blocks_are_muons_and_the_rest_is_adamws():
    model, other = build(), build()
    rest = [other["blocks"].bias, *other["out"].parameters()]
    muon = torch.optim.Muon([other["blocks"].weight], lr=0.01, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    both = MuonAdamW(model.named_parameters(), lr=0.01, matrices="blocks")
    adamw = torch.optim.AdamW(rest, lr=0.01, weight_decay=0.01)
    for seed in range(3):
        step(model, both, seed=seed)
        step(other, muon, adamw, seed=seed)
    for name, value in other.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


@pytest.mark.parametrize("resumed", [False, True])
def test_a_schedule_reaches_both(resumed):
    optimizer = MuonAdamW(build().named_parameters(), lr=0.01, matrices="blocks")
    if resumed:
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    one_cycle(optimizer, total_steps=100)
    rates = {group["lr"] for part in optimizer.parts for group in part.param_groups}
    assert len(rates) == 1
    assert rates.pop() < 0.01


def test_a_saved_state_goes_on_as_without_a_break():
    model = build()
    optimizer = MuonAdamW(model.named_parameters(), lr=0.01, matrices="blocks")
    step(model, optimizer)
    later, state = copy.deepcopy(model), copy.deepcopy(optimizer.state_dict())
    resumed = MuonAdamW(later.named_parameters(), lr=0.01, matrices="blocks")
    resumed.load_state_dict(state)
    step(model, optimizer, seed=1)
    step(later, resumed, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), later.parameters(), strict=True))


def test_a_pattern_without_a_matrix_is_refused():
    with pytest.raises(PmgError, match=r"optimizer\.matrices: no matrix .* contains 'layers'"):
        MuonAdamW(build().named_parameters(), lr=0.01, matrices="layers")
