"""Calibration of the scores d_p and d_t, so that alpha weighs two quantities of one scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pmg.configuration.ranges import Cosine, Positive


class Calibration(Protocol):
    """Maps the scorer's cosines to the scores d_p and d_t that are balanced."""

    def __call__(self, d_p: Tensor, d_t: Tensor) -> tuple[Tensor, Tensor]:
        """Returns scores above 0 that rise with the cosines, of the shape of each argument."""


@dataclass(frozen=True)
class NoCalibration:
    """The cosines themselves, as in the paper."""

    def __call__(self, d_p: Tensor, d_t: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the arguments."""
        return d_p, d_t


@dataclass(frozen=True)
class NormalCalibration:
    """Normal distribution functions: a score is the share of images, drawn for other users, with a lower cosine.

    A scorer's cosines with preference words and with targets have means and deviations of their own, and may be
    negative, where their logarithm is clamped. Both means and standard deviations are of cosines of validation users'
    images, with preference keywords and with target keywords.
    """

    preference_mean: Cosine
    preference_deviation: Positive
    accuracy_mean: Cosine
    accuracy_deviation: Positive

    def __call__(self, d_p: Tensor, d_t: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the shares, in (0, 1)."""
        return (
            torch.special.ndtr((d_p.double() - self.preference_mean) / self.preference_deviation).float(),
            torch.special.ndtr((d_t.double() - self.accuracy_mean) / self.accuracy_deviation).float(),
        )
