"""Optimizers and learning-rate schedules, as the partials that configs give.

`conf/optimizer` holds partials of optimizers (torch's, or others'), `conf/lr_scheduler` of the functions below; a
training module supplies the parameters and the number of steps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.optim.optimizer import Optimizer
from transformers import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup, get_wsd_schedule

from pmg.configuration.ranges import CountOrZero, Decay, Fraction, NotNegative, Positive
from pmg.domain import PmgError, require_positive


class OptimizerPartial(Protocol):
    """Makes an optimizer, e.g. ``functools.partial(torch.optim.AdamW, lr=1e-3)``."""

    def __call__(self, params: Iterable[tuple[str, nn.Parameter]], /) -> Optimizer:
        """Returns the optimizer of named parameters."""


class SchedulerPartial(Protocol):
    """Makes a learning-rate schedule, e.g. ``functools.partial(one_cycle, warmup=0.05)``."""

    def __call__(self, optimizer: Optimizer, /, *, total_steps: int) -> LRScheduler:
        """Returns the schedule of `optimizer` over `total_steps` optimizer steps; it is stepped after each of them."""


class OptimizedModule(pl.LightningModule):
    """A module whose part of the name `trained` is trained by an optimizer and a schedule."""

    trained: str

    def __init__(self, optimizer: OptimizerPartial, lr_scheduler: SchedulerPartial) -> None:
        super().__init__()
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler

    def configure_optimizers(self) -> Any:
        """Returns the optimizer, and its schedule stepped each step; PmgError for no steps or no end."""
        require_positive(**{"trainer.max_steps": self.trainer.max_steps})
        built = self.optimizer(getattr(self, self.trained).named_parameters())
        schedule = self.lr_scheduler(built, total_steps=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": built, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def adamw(learning_rate: float, weight_decay: float = 0.01) -> OptimizerPartial:
    """Returns a partial of torch's AdamW."""
    return partial(torch.optim.AdamW, lr=learning_rate, weight_decay=weight_decay)


class MuonAdamW(Optimizer):
    """`torch.optim.Muon` (Jordan et al. 2024) for some matrices, `torch.optim.AdamW` for all other parameters.

    Muon's updates are scaled to the size of AdamW's (Liu et al. 2025), so that both have one learning rate.
    PmgError if no matrix has such a name.

    Args:
        params: names and parameters, as of ``module.named_parameters()``.
        lr: learning rate of both, as is `weight_decay`.
        matrices: regular expression; parameters with two dimensions whose name contains it are Muon's.
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
        both: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
        muon = torch.optim.Muon(inner, **both, momentum=momentum, adjust_lr_fn="match_rms_adamw")
        self.parts: list[Optimizer] = [muon, torch.optim.AdamW(outer, **both)]
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


def one_cycle(optimizer: Optimizer, *, total_steps: int, warmup: Decay = 0.05) -> LRScheduler:
    """Returns a schedule that rises to the optimizer's learning rate and anneals to almost 0 (Smith & Topin 2018).

    It rises in a share `warmup` of the steps. A momentum, or AdamW's first beta, is cycled between 0.85 and 0.95 the
    other way, where the optimizer has one for all parameters.
    """
    peak = [group["lr"] for group in optimizer.param_groups]
    cycled = not optimizer.defaults.keys().isdisjoint(("momentum", "betas"))
    if warmup * total_steps == 1:
        warmup = math.nextafter(warmup, 1)  # torch divides by the steps of the rise less one
    return OneCycleLR(optimizer, max_lr=peak, total_steps=total_steps, pct_start=float(warmup), cycle_momentum=cycled)


def constant(optimizer: Optimizer, *, total_steps: int, warmup_steps: CountOrZero = 20) -> LRScheduler:
    """Returns a schedule that rises linearly in `warmup_steps` and stays: a resumed training may have more steps."""
    schedule: LRScheduler = get_constant_schedule_with_warmup(optimizer, warmup_steps)
    return schedule


def cosine(optimizer: Optimizer, *, total_steps: int, warmup: Fraction = 0.05) -> LRScheduler:
    """Returns a linear rise in a share of the steps, then half a cosine to 0 (Loshchilov & Hutter 2017)."""
    schedule: LRScheduler = get_cosine_schedule_with_warmup(optimizer, round(total_steps * warmup), total_steps)
    return schedule


def warmup_stable_decay(
    optimizer: Optimizer, *, total_steps: int, warmup: Fraction = 0.02, decay: Fraction = 0.2
) -> LRScheduler:
    """Returns a schedule that rises linearly, stays, and falls at the end (Hu et al. 2024).

    It rises in a share `warmup` of the steps, at least in one, and falls in a share `decay`.
    """
    rising, falling = max(1, round(total_steps * warmup)), round(total_steps * decay)
    schedule: LRScheduler = get_wsd_schedule(
        optimizer, rising, falling, num_stable_steps=total_steps - rising - falling
    )
    return schedule
