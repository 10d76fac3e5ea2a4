"""Statistics of a network's activations that describe style."""

from __future__ import annotations

import torch
from torch import Tensor


def statistics(layer: Tensor) -> Tensor:
    """Returns mean and standard deviation `(B, 2 * C)` over the positions of `(B, C, h, w)`."""
    mean, variance = layer.mean((2, 3)), layer.var((2, 3), unbiased=False)
    return torch.cat([mean, (variance + 1e-5).sqrt()], dim=1)
