"""Muon for the matrices inside a network's blocks, AdamW for everything else, as one optimizer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from pmg.configuration.ranges import Decay, NotNegative, Positive
from pmg.domain import PmgError


class MuonAdamW(Optimizer):
    """`torch.optim.Muon` (Jordan et al. 2024) for some matrices, `torch.optim.AdamW` for all other parameters.

    Muon's updates are scaled to the size of AdamW's (Liu et al. 2025), so that both have one learning rate.
    PmgError if no matrix has such a name.

    Args:
        params: names and parameters, as of ``module.named_parameters()``.
        lr: learning rate of both.
        matrices: regular expression; parameters with two dimensions whose name contains it are Muon's.
        weight_decay: of both.
        momentum: of Muon.
    """

    def __init__(
        self, params: Iterable[tuple[str, nn.Parameter]], lr: Positive, matrices: str,
        weight_decay: NotNegative = 0.01, momentum: Decay = 0.95,
    ) -> None:  # fmt: skip
        named = list(params)
        chosen = [bool(one.ndim == 2 and re.search(matrices, name)) for name, one in named]
        if not any(chosen):
            raise PmgError(f"optimizer.matrices: no matrix of the model has a name that contains '{matrices}'")
        inner, outer = (
            [one for (_, one), hit in zip(named, chosen, strict=True) if hit == want] for want in (True, False)
        )
        self.parts: list[Optimizer] = [
            torch.optim.Muon(
                inner, lr=lr, weight_decay=weight_decay, momentum=momentum, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(outer, lr=lr, weight_decay=weight_decay),
        ]
        super().__init__([*inner, *outer], {"lr": lr})
        self._share_groups()

    def _share_groups(self) -> None:
        """Makes the groups of both optimizers this one's, so that schedules reach both."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Steps both; returns what the closure returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Returns the states of both."""
        return {"state": {}, "param_groups": [], "parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the states of both."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()
