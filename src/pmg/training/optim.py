"""Optimisers and learning-rate schedules shared by the training modules."""

from __future__ import annotations

from collections.abc import Iterable

import pytorch_lightning as pl
import torch
from torch import nn

from pmg.domain import require_positive


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
