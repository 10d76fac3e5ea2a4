"""What denoisers around a model of diffusers have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor, nn

from pmg.domain import PmgError
from pmg.models.diffusion.interfaces import ConditionAdapter


class DiffusersDenoiser(nn.Module):
    """Predicts the target of a noise process: a model of diffusers with the adapter of its conditions.

    Its config has ``in_channels`` and ``sample_size``, the side of latents where None is given. PmgError if the model
    is none of diffusers'.
    """

    folder: str
    """Name of the model's folder in a diffusers pipeline."""

    def __init__(self, model: ModelMixin, adapter: ConditionAdapter, sample_size: int | None = None) -> None:
        super().__init__()
        if not isinstance(model, ModelMixin):
            raise PmgError(
                f"{type(self).__name__} takes a model of diffusers, which saves and loads itself, and a "
                f"{type(model).__name__} is none. Derive it from ModelMixin and ConfigMixin; its config has "
                "`in_channels` and `sample_size`"
            )
        self.model, self.adapter = model, adapter
        self.sample_size: int = sample_size or model.config.sample_size

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape `(C, h, w)` of the latents."""
        return self.model.config.in_channels, self.sample_size, self.sample_size

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.model.dtype

    def forward(self, noisy: Tensor, times: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Returns the prediction `(B, C, h, w)`; subclasses call the model.

        Times `(B,)` are in the unit of the time embedding; `inputs` is of `ConditionAdapter.prepare`.
        """
        raise NotImplementedError
