"""A picture of the target, as catalogues have one, that a UNet sees beside its noisy latents.

The picture's latents and a plane that says whether there is one are appended to the UNet's input channels. The new
weights of the first convolution start at zero, so that a widened UNet draws what it drew before.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from pmg.models.diffusion.conditioning import Condition
from pmg.models.diffusion.unet.condition_adapter import UNetConditionAdapter
from pmg.models.diffusion.unet.denoiser import UNetDenoiser
from pmg.models.loading.weight_sources import load_frozen

PICTURE = "target_picture"  # the denoiser's own input beside those of the UNet


def widen(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Returns a UNet of the same weights that also takes a picture's latents and a plane; the new weights are 0."""
    channels = unet.config.in_channels
    wide = UNet2DConditionModel.from_config({**unet.config, "in_channels": 2 * channels + 1})
    weights = unet.state_dict()
    first = weights["conv_in.weight"]
    added = first.new_zeros(first.shape[0], channels + 1, *first.shape[2:])
    wide.load_state_dict({**weights, "conv_in.weight": torch.cat([first, added], 1)})
    return wide


class TargetPictureAdapter(UNetConditionAdapter):
    """Conditions whose reference image, at most one a row, is a picture of the target."""

    def prepare(self, condition: Condition, guidance: float | None = None, reused: bool = False) -> dict[str, Any]:
        """Returns keyword arguments of the denoiser, see `ConditionAdapter`."""
        inputs = super().prepare(condition, guidance, reused)
        if condition.references is not None:
            seen = condition.references.mask[:, :1, None, None].to(condition.tokens.dtype)
            picture = condition.references.latents[:, 0] * seen
            inputs[PICTURE] = torch.cat([picture, seen.expand_as(picture[:, :1])], 1)
        return inputs


class TargetPictureDenoiser(UNetDenoiser):
    """A widened UNet.

    Args:
        model: of `widen`.
    """

    @classmethod
    def from_folder(cls, folder: str | Path) -> TargetPictureDenoiser:
        """Loads a diffusers folder, frozen, in float32; a UNet of the plain width is widened."""
        model = load_frozen(UNet2DConditionModel, folder)
        plain = model.config.in_channels == model.config.out_channels
        return cls(widen(model).requires_grad_(False).eval() if plain else model)

    def __init__(self, model: UNet2DConditionModel) -> None:
        super().__init__(model, adapter=TargetPictureAdapter(model, image_size=0))

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape `(C, h, w)` of the latents."""
        return self.model.config.out_channels, self.sample_size, self.sample_size

    def forward(self, noisy: Tensor, times: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Returns the prediction `(B, C, h, w)`, see `Denoiser`."""
        others = {name: value for name, value in inputs.items() if name != PICTURE}
        picture = inputs.get(PICTURE)
        if picture is None:
            picture = noisy.new_zeros(len(noisy), noisy.shape[1] + 1, *noisy.shape[2:])
        return super().forward(torch.cat([noisy, picture.to(noisy)], 1), times, others)
