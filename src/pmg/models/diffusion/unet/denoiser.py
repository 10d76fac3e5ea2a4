"""UNets of diffusers as denoisers, and conditions as their keyword arguments, which differ between families."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor

from pmg.domain import PmgError
from pmg.models.diffusion.conditioning import Condition
from pmg.models.diffusion.cross_attention import attention_for, precompute_keys_values
from pmg.models.diffusion.diffusers_denoiser import DiffusersDenoiser
from pmg.models.diffusion.interfaces import Capabilities, ConditionAdapter


class UNetConditionAdapter:
    """Conditions for UNets of Stable Diffusion 1, 2 and XL, and of pmg's embedded generator.

    The model has a `WeightedAttention`; SDXL takes `image_size`, in pixels, as an input; `distilled_from`: see
    `Capabilities`. PmgError if the UNet takes other inputs than a text-to-image request has.
    """

    def __init__(self, model: UNet2DConditionModel, image_size: int, distilled_from: str = "") -> None:
        if model.config.addition_embed_type not in (None, "text_time"):
            raise PmgError(
                f"UNets with addition_embed_type={model.config.addition_embed_type} are not supported: they take more "
                "than a text. Use a text-to-image checkpoint."
            )
        self.model, self.image_size = model, image_size
        self.supports = Capabilities(
            attention_bias=True, guidance_input=bool(model.config.time_cond_proj_dim), distilled_from=distilled_from
        )

    def prepare(self, condition: Condition, guidance: float | None = None, reused: bool = False) -> dict[str, Any]:
        """Returns keyword arguments of the UNet, see `ConditionAdapter`."""
        config, tokens = self.model.config, condition.tokens
        cache = precompute_keys_values(self.model, tokens) if reused else None
        inputs: dict[str, Any] = {
            "encoder_hidden_states": tokens,
            "encoder_attention_mask": condition.mask,
            "cross_attention_kwargs": {"token_bias": condition.bias, "cache": cache},
        }
        if config.class_embed_type == "projection":
            both = config.projection_class_embeddings_input_dim == 2 * tokens.shape[-1]
            inputs["class_labels"] = condition.pooled_with_soft_mean() if both else condition.pooled
        if config.addition_embed_type == "text_time":  # original size, corner of the crop, target size
            times = tokens.new_tensor([self.image_size, self.image_size, 0, 0, self.image_size, self.image_size])
            added = {"text_embeds": condition.pooled, "time_ids": times.expand(len(condition), -1)}
            inputs["added_cond_kwargs"] = added
        if config.time_cond_proj_dim:
            scale = torch.full((len(condition),), (1.0 if guidance is None else guidance) - 1.0)
            embedded = get_timestep_embedding(1000.0 * scale, config.time_cond_proj_dim)  # Luo et al. 2023
            inputs["timestep_cond"] = embedded.to(tokens)
        return inputs


class UNetDenoiser(DiffusersDenoiser):
    """A UNet with cross-attention.

    `sample_size` is the side of the latents; None: what the UNet was trained at. `channels_last` convolutions are 1.1
    times faster on CPUs, with other rounding. Without an `adapter` it has one for UNets that take no image size.
    """

    folder, kind = "unet", UNet2DConditionModel

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
        """Returns the prediction `(B, C, h, w)`, see `DiffusersDenoiser`."""
        if self.channels_last:
            noisy = noisy.contiguous(memory_format=torch.channels_last)
        return self.model(noisy, times, **inputs).sample
