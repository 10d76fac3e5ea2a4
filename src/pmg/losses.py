"""Loss terms as pure functions: one value a sample first, any reduction by the caller."""

from __future__ import annotations

import torch
from torch import Tensor


def per_sample_mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over all but the first dimension; returns `(B,)`."""
    return (prediction.float() - target.float()).square().flatten(1).mean(1)


def min_snr_weight(snr: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """Min-SNR-gamma loss weights (Hang et al. 2023, equations 5 and 6).

    Args:
        snr: signal-to-noise ratio of each sample's timestep, `(B,)`, above 0.
        gamma: the ceiling, above 0.
        prediction_type: ``epsilon``, ``v_prediction`` or ``sample``.

    Returns:
        Weights `(B,)`.
    """
    clipped = torch.clamp(snr, max=gamma)
    return {"epsilon": clipped / snr, "v_prediction": clipped / (snr + 1), "sample": clipped}[prediction_type]


def margin_contrast(own: Tensor, other: Tensor, margin: float) -> Tensor:
    """How much another's loss falls short of lying `margin` above one's own: ``max(0, margin + own - other)``.

    PMG's published benchmark subtracts half of the other loss instead, which has no lower bound: it can be made
    as small as one likes by spoiling the other prediction. This is at least 0, and once the margin is reached it
    has no gradient.

    Args:
        own: loss on what is to be learned, `(B,)`.
        other: loss on what belongs to somebody else, `(B,)`.
        margin: 0 or more.

    Returns:
        `(B,)`, at least 0.
    """
    return torch.relu(margin + own - other)


def contrastive_loss(logits: Tensor, positive: Tensor) -> Tensor:
    """Cross-entropy against several right answers a row (Khosla et al. 2020, ``L_out``).

    Args:
        logits: `(B, K)`.
        positive: bool `(B, K)`, at least one true a row.

    Returns:
        `(B,)`: minus the mean log-probability of the row's right answers.
    """
    log_probability = logits.log_softmax(-1)
    return -(log_probability * positive).sum(-1) / positive.sum(-1)
