"""An objective term: soft tokens that a user doesn't need should stay small."""

from dataclasses import dataclass

from torch import Tensor

from pmg.configuration.ranges import NotNegative
from pmg.training.objective import ObjectiveTerm, StepOutputs


@dataclass(frozen=True)
class TokenNorm(ObjectiveTerm):
    """Mean square of the soft tokens; `weight` is the term's factor in the sum."""

    weight: NotNegative

    def __call__(self, outputs: StepOutputs) -> Tensor:
        """Returns the term of each of U users, `(U,)`."""
        return outputs.soft_tokens.square().mean((1, 2))
