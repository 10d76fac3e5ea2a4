"""The objective of the preference training: terms with weights, any number of them.

Shapes: `U` users a batch, `K` questions (target, noise, timestep) a user, `B = U * K`, a user's questions together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

from torch import Tensor

from pmg.configuration.ranges import NotNegative
from pmg.losses import margin_contrast

Whose = Literal["own", "next"]


class Losses:
    """Denoising losses that a batch can be asked for, each computed once.

    Args:
        ask: gives the loss of each preference, `(B,)`, on drawings asked for by their targets in words: its user's
            ``own`` or the ``next`` user's; noise, timesteps and dropped blocks stay where they are.
        questions: B.
    """

    def __init__(self, ask: Callable[[Whose], Tensor], questions: int) -> None:
        self.ask, self.questions = ask, questions

    @cached_property
    def own(self) -> Tensor:
        """Each user's own questions, `(B,)`."""
        return self.ask("own")

    @cached_property
    def other(self) -> Tensor:
        """The next user's questions, asked of each user's preference, `(B,)`."""
        return self.ask("next")


class Term(Protocol):
    """One part of the objective.

    Attributes:
        weight: its factor in the sum.
    """

    weight: float

    def __call__(self, losses: Losses) -> Tensor:
        """Returns the term for each question, `(B,)`."""


@dataclass(frozen=True)
class Denoise:
    """The denoising loss of the user's own truth: how the soft branch learns what a user likes.

    Attributes:
        weight: its factor in the sum.
    """

    weight: NotNegative

    def __call__(self, losses: Losses) -> Tensor:
        """Returns the term for each question, `(B,)`."""
        return losses.own


@dataclass(frozen=True)
class Contrast:
    """Other users' items: with a user's soft tokens, the loss on somebody else's truth should be higher by a margin.

    The somebody else is the next user of the batch, which is shuffled; the other drawing is asked for by its own
    target words, so that the preference alone is at odds with it. Bounded, unlike the benchmark's; see
    `pmg.losses.margin_contrast`. Costs one more pass of the denoiser. A batch of one user has no other: there the
    term is the margin itself, without a gradient.

    Attributes:
        weight: its factor in the sum.
        margin: of the (min-SNR weighted) denoising loss, 0 or more.
    """

    weight: NotNegative
    margin: NotNegative

    def __call__(self, losses: Losses) -> Tensor:
        """Returns the term for each question, `(B,)`."""
        return margin_contrast(losses.own, losses.other, self.margin)
