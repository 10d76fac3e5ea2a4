"""UNets of diffusers as denoisers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from pmg.models.diffusion.cross_attention import attention_for
from pmg.models.diffusion.diffusers_denoiser import DiffusersDenoiser
from pmg.models.diffusion.interfaces import ConditionAdapter
from pmg.models.diffusion.unet.condition_adapter import UNetConditionAdapter
from pmg.models.loading.weight_sources import load_frozen


class UNetDenoiser(DiffusersDenoiser):
    """A UNet with cross-attention.

    Args:
        model: the UNet.
        sample_size: side of the latents; None: what the UNet was trained at.
        channels_last: memory format of the convolutions: 1.1 times faster on CPUs, with other rounding.
        adapter: translates conditions; None: a `UNetConditionAdapter` for UNets that take no image size.
    """

    folder = "unet"

    @classmethod
    def from_folder(cls, folder: str | Path) -> UNetDenoiser:
        """Loads a diffusers folder, frozen, in float32."""
        return cls(load_frozen(UNet2DConditionModel, folder))

    def __init__(
        self, model: UNet2DConditionModel, sample_size: int | None = None, channels_last: bool = True,
        adapter: ConditionAdapter | None = None,
    ) -> None:  # fmt: skip
        super().__init__(model, adapter or UNetConditionAdapter(model, image_size=0), sample_size)
        self.channels_last = channels_last
        if channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.model.set_attn_processor(attention_for(self.sample_size**2))

    def forward(self, noisy: Tensor, times: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Returns the prediction `(B, C, h, w)`, see `Denoiser`."""
        if self.channels_last:
            noisy = noisy.contiguous(memory_format=torch.channels_last)
        return self.model(noisy, times, **inputs).sample
