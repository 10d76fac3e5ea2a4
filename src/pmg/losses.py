"""Loss functions with one value a sample; the caller reduces them."""

from __future__ import annotations

import torch
from torch import Tensor


def per_sample_mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Returns the mean squared error `(B,)` over all dimensions but the first."""
    return (prediction.float() - target.float()).square().flatten(1).mean(1)


def min_snr_weight(snr: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """Returns Min-SNR-gamma loss weights (Hang et al. 2023, equations 5 and 6).

    Args:
        snr: signal-to-noise ratio of each sample's timestep, `(B,)`, above 0.
        gamma: upper bound of the SNR, above 0.
        prediction_type: ``epsilon``, ``v_prediction`` or ``sample``.

    Returns:
        Weights `(B,)`.
    """
    clipped = torch.clamp(snr, max=gamma)
    return {"epsilon": clipped / snr, "v_prediction": clipped / (snr + 1), "sample": clipped}[prediction_type]


def margin_contrast(own: Tensor, other: Tensor, margin: float) -> Tensor:
    """Returns the margin loss ``max(0, margin + own - other)``.

    PMG's published benchmark subtracts half of the other loss instead, which has no lower bound: a worse prediction
    for the other user always reduces it. This loss is at least 0, and its gradient is 0 once the margin is reached.

    Args:
        own: loss on the user's own target, `(B,)`.
        other: loss on another user's target, `(B,)`.
        margin: 0 or more.

    Returns:
        `(B,)`, at least 0.
    """
    return torch.relu(margin + own - other)


def contrastive_loss(logits: Tensor, positive: Tensor) -> Tensor:
    """Returns the cross-entropy with several positives a row (Khosla et al. 2020, ``L_out``).

    Args:
        logits: `(B, K)`; minus infinity: not compared with.
        positive: bool `(B, K)`, at least one true a row.

    Returns:
        `(B,)`: minus the mean log-probability of the row's positives.
    """
    log_probability = logits.log_softmax(-1).masked_fill(~positive, 0.0)
    return -log_probability.sum(-1) / positive.sum(-1)
