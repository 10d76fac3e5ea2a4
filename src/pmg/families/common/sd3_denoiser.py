"""The diffusion transformer of Stable Diffusion 3 as a denoiser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import SD3Transformer2DModel
from torch import Tensor

from pmg.domain import PmgError
from pmg.families.common.sd3_adapter import SD3ConditionAdapter
from pmg.families.common.sd3_attention import BiasedJointAttention
from pmg.models.diffusion.diffusers_denoiser import DiffusersDenoiser
from pmg.models.diffusion.interfaces import ConditionAdapter


class SD3Denoiser(DiffusersDenoiser):
    """The multimodal diffusion transformer (Esser et al. 2024), with hidden and weighted text tokens.

    Args:
        model: the transformer; the width of pooled vectors is its ``pooled_projection_dim``.
        sample_size: side of the latents; None: what the transformer was trained at.
        adapter: translates conditions; None: a `SD3ConditionAdapter`.

    Raises:
        PmgError: the latents can't be cut into patches.
    """

    folder = "transformer"

    def __init__(
        self, model: SD3Transformer2DModel, sample_size: int | None = None, adapter: ConditionAdapter | None = None
    ) -> None:
        super().__init__(model, adapter or SD3ConditionAdapter(), sample_size)
        if self.sample_size % model.config.patch_size:
            raise PmgError(
                f"latents of {self.sample_size} a side can't be cut into patches of {model.config.patch_size}: "
                "set generator.size to a multiple of the patches' size in pixels"
            )
        self.model.set_attn_processor(BiasedJointAttention())

    def forward(self, noisy: Tensor, times: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Returns the prediction `(B, C, h, w)`, see `Denoiser`."""
        return self.model(hidden_states=noisy, timestep=times, **inputs).sample
