"""Base class of trainable encoders of soft tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from diffusers import ConfigMixin, ModelMixin
from torch import Tensor

from pmg.domain import PmgError
from pmg.models.language.language_model import LanguageModel


@dataclass(frozen=True)
class UserFeatures:
    """One feature vector for each of `U` users, `(U, F)`, in memory: the inputs of encoders that read no history."""

    vectors: Tensor

    def __len__(self) -> int:
        return len(self.vectors)

    def prefetch(self, rows: Tensor) -> None:
        """Does nothing: all rows are in memory."""

    def select(self, rows: Sequence[int] | Tensor) -> UserFeatures:
        """Returns the features of the chosen users, in that order."""
        return UserFeatures(self.vectors[torch.as_tensor(rows, dtype=torch.long)])


class TokenEncoder(ModelMixin, ConfigMixin):
    """A trainable module from encoder inputs to soft tokens; ``pmg-train`` trains any of them alike.

    A subclass decorates its constructor with diffusers' ``register_to_config`` and implements `forward`. An encoder
    that standardises over users implements `states` and `fit_statistics`, too.
    """

    @classmethod
    def sized(cls, language_model: LanguageModel, text_width: int, inputs: Any, **options: Any) -> Self:
        """Returns an untrained encoder that fits two models and inputs; `pmg-estimate` measures one without weights.

        Of the language model the sizes count alone, of the inputs of some users the shapes; `text_width` is D, that of
        the generator's text encoder, and options are the config's.
        """
        raise PmgError(f"{cls.__name__} can't be forecast: implement its class method `sized`")

    def forward(self, language_model: LanguageModel, inputs: Any) -> Tensor:
        """Returns the soft tokens `(B, n, D)` of B users, differentiable in the encoder's parameters.

        The language model is frozen, and an argument, so that checkpoints hold trained weights alone; inputs are those
        that the `pmg.training.encoder_inputs.EncoderInputs` of the same config selects.
        """
        raise NotImplementedError

    def respond(self, language_model: LanguageModel, inputs: Any) -> tuple[Tensor, Sequence[Tensor]]:
        """Returns soft tokens as `forward` does, and scores of each attribute's options `(B, K)`; none by default."""
        return self(language_model, inputs), ()

    @torch.no_grad()
    def encode(self, language_model: LanguageModel, inputs: Any, batch_size: int = 50) -> Tensor:
        """Returns the soft tokens of any number of users, `(U, n, D)`, without gradients, on the CPU."""
        batches = torch.arange(len(inputs)).split(batch_size)
        return torch.cat([self(language_model, inputs.select(users)).cpu() for users in batches])

    @torch.no_grad()
    def answer(self, language_model: LanguageModel, inputs: Any, batch_size: int = 50) -> list[Tensor]:
        """Returns the scores of each attribute's options for any number of users, `(U, K)`, before a softmax."""
        batches = torch.arange(len(inputs)).split(batch_size)
        scores = [self.respond(language_model, inputs.select(users))[1] for users in batches]
        return [torch.cat(parts).float().cpu() for parts in zip(*scores, strict=True)]

    def states(self, language_model: LanguageModel, inputs: Any) -> Tensor:
        """Returns what `fit_statistics` takes, `(B, …)`; nothing by default."""
        return torch.zeros(len(inputs), 0)

    def fit_statistics(self, states: Tensor) -> None:
        """Fits statistics to the `states` of training users, before and after training; does nothing by default."""
