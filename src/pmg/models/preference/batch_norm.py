"""Batch normalisation over the global batch of several processes, on CPUs too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn

from pmg.domain import PmgError


class _Sum(torch.autograd.Function):
    """Sums a tensor over the processes; each part of the sum gets the sum of all processes' gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        """Returns the sum over the processes, of the shape of `values`."""
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Returns the sum of the processes' gradients."""
        return _Sum.forward(ctx, gradient)


class SharedBatchNorm1d(nn.BatchNorm1d):
    """Batch normalisation with mean and standard deviation over the rows of all processes.

    `torch.nn.SyncBatchNorm` supports GPUs only. In eval mode, and in a single process, this is `torch.nn.BatchNorm1d`.
    Processes may have different numbers of rows; in train mode all of them must call it.
    """

    running_mean: Tensor  # Optional in torch: None without running statistics
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, values: Tensor) -> Tensor:
        """Standardises rows `(B, features)`; PmgError for one row in training, which has no deviation."""
        if self.training and len(values) < 2 and not distributed.is_initialized():
            raise PmgError(
                "a training step standardises its users' states, so that it needs two or more: set "
                "objective.users_per_step=2 or more"
            )
        if not (self.training and distributed.is_initialized() and distributed.get_world_size() > 1):
            return super().forward(values)
        rows = _Sum.apply(values.new_tensor([len(values)]))
        mean = _Sum.apply(values.sum(0)) / rows
        squares = _Sum.apply((values - mean).square().sum(0))
        with torch.no_grad():  # as in torch, the running variance is unbiased
            self.running_mean.lerp_(mean.detach(), self.momentum)
            self.running_var.lerp_(squares.detach() / (rows - 1), self.momentum)
            self.num_batches_tracked += 1
        return (values - mean) * torch.rsqrt(squares / rows + self.eps)
