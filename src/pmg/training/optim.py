"""Optimisers and learning-rate schedules shared by the training modules."""

from __future__ import annotations

from collections.abc import Iterable

import pytorch_lightning as pl
import torch
from torch import nn
from transformers import get_constant_schedule_with_warmup, get_wsd_schedule

from pmg.domain import require_positive

WARMUP = 20  # steps


def one_cycle(
    module: pl.LightningModule, parameters: Iterable[nn.Parameter], peak: float, weight_decay: float = 0.01
) -> dict:
    """AdamW whose learning rate rises for 5 % of the run and then falls to nothing (Smith & Topin 2018).

    Raises:
        PmgError: the run has no steps, or no end.
    """
    require_positive(**{"trainer.max_steps": module.trainer.max_steps})
    optimizer = torch.optim.AdamW(parameters, lr=peak, weight_decay=weight_decay)
    total = int(module.trainer.estimated_stepping_batches)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=peak, total_steps=total, pct_start=0.05)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def constant(
    module: pl.LightningModule, parameters: Iterable[nn.Parameter], peak: float, weight_decay: float = 0.01
) -> dict:
    """AdamW whose learning rate rises for `WARMUP` steps and stays: a training may go on for more steps."""
    require_positive(**{"trainer.max_steps": module.trainer.max_steps})
    optimizer = torch.optim.AdamW(parameters, lr=peak, weight_decay=weight_decay)
    schedule = get_constant_schedule_with_warmup(optimizer, WARMUP)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def warmup_stable_decay(
    module: pl.LightningModule,
    parameters: Iterable[nn.Parameter],
    peak: float,
    decay: float,
    weight_decay: float = 0.01,
) -> dict:
    """AdamW whose learning rate rises for 2 % of the run, stays, and falls in the last part (Hu et al. 2024).

    A training without decay goes on from its weights as if it had never stopped.

    Args:
        module: in training.
        parameters: of the optimiser.
        peak: learning rate.
        decay: share of the run in which it falls.
        weight_decay: of AdamW.

    Raises:
        PmgError: the run has no steps, or no end.
    """
    require_positive(**{"trainer.max_steps": module.trainer.max_steps})
    optimizer = torch.optim.AdamW(parameters, lr=peak, weight_decay=weight_decay)
    total = int(module.trainer.estimated_stepping_batches)
    warmup, falling = max(1, round(total * 0.02)), round(total * decay)
    schedule = get_wsd_schedule(optimizer, warmup, falling, num_stable_steps=total - warmup - falling)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


SCHEDULES = {"one_cycle": one_cycle, "constant": constant}
