"""FLUX.2 klein (Black Forest Labs 2026): three layers of Qwen3's hidden states, latents of unit variance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2Transformer2DModel
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from torch import Tensor
from torch.nn.functional import pad, pixel_shuffle, pixel_unshuffle
from transformers import PreTrainedModel, Qwen3Model

from pmg.families.common.language_text_encoder import LanguageTextEncoder
from pmg.families.common.transformer_family import PipelineFlow, TextModels, TransformerFamily
from pmg.models.diffusion.conditioning import Block, Condition, TextBlock
from pmg.models.diffusion.diffusers_denoiser import DiffusersDenoiser
from pmg.models.diffusion.interfaces import Capabilities, PromptEncoder
from pmg.models.diffusion.latent_codec import NormalizingCodec
from pmg.models.diffusion.sequences import PATCH, grid_positions, hide, joint_bias, visible_first
from pmg.models.diffusion.text_encoder import as_text
from pmg.models.language.chat_template import split_chat_template

STRIDE = 10  # between the times of reference images, as in diffusers' pipeline
LAYERS = (9, 18, 27)  # of the hidden states, as in diffusers' pipeline
BASE = "black-forest-labs/FLUX.2-klein-base-4B"


class Flux2Codec(NormalizingCodec):
    """The autoencoder of FLUX.2: 2 x 2 latents are one, and batch statistics normalise them."""

    def __init__(self, autoencoder: AutoencoderKLFlux2) -> None:
        config = autoencoder.config
        size = PATCH * 2 ** (len(config.block_out_channels) - 1)
        super().__init__(autoencoder, config.latent_channels * PATCH**2, size)

    def _encode(self, images: Tensor) -> Tensor:
        return pixel_unshuffle(self.autoencoder.encode(images).latent_dist.mode(), PATCH)

    def _decode(self, latents: Tensor) -> Tensor:
        return self.autoencoder.decode(pixel_shuffle(latents, PATCH)).sample

    def _statistics(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        norm, view = self.autoencoder.bn, (1, -1, 1, 1)
        deviation = torch.sqrt(norm.running_var + self.autoencoder.config.batch_norm_eps)
        return norm.running_mean.view(view), deviation.view(view)


class Flux2TextEncoder(LanguageTextEncoder):
    """Hidden states of three layers; targets are padded to `max_length`, and the padding is visible."""

    def _encode(self, texts: list[str]) -> TextBlock:
        block = self.states(texts, self.max_length)
        return as_text(Block(block.tokens, torch.ones_like(block.mask)), block.mask)

    _encode_unpadded = LanguageTextEncoder._encode


class Flux2ConditionAdapter:
    """Conditions for FLUX.2 klein; a text token's position is its place among visible ones, on an axis of its own."""

    def __init__(self, image_tokens: int, distilled_from: str = "") -> None:
        self.supports = Capabilities(attention_bias=True, distilled_from=distilled_from, references=True)
        self.image_tokens = image_tokens

    def prepare(self, condition: Condition, guidance: float | None = None, reused: bool = False) -> dict[str, Any]:
        """Returns keyword arguments of the transformer, see `ConditionAdapter`."""
        condition = visible_first(condition)
        tokens, bias, images = hide(condition), joint_bias(condition, self.image_tokens), condition.references
        if images is not None:  # behind the image, hidden where a row has fewer
            hidden = torch.zeros_like(images.mask, dtype=bias.dtype).masked_fill(~images.mask, -math.inf)
            places = images.latents[0, 0, 0].numel()
            bias = torch.cat([bias, hidden.repeat_interleave(places, 1)[:, None, None]], dim=-1)
        return {
            "encoder_hidden_states": tokens,
            "txt_ids": pad(torch.arange(tokens.shape[1], device=tokens.device)[:, None], (3, 0)),
            "joint_attention_kwargs": {"attention_mask": bias},
            "references": None if images is None else images.latents,
        }


class Flux2Denoiser(DiffusersDenoiser):
    """The transformer of FLUX.2 klein; reference images follow the image as further tokens."""

    folder = "transformer"

    def __init__(self, model: Flux2Transformer2DModel, sample_size: int, distilled_from: str = "") -> None:
        super().__init__(model, Flux2ConditionAdapter(sample_size**2, distilled_from), sample_size)

    def forward(self, noisy: Tensor, times: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Returns the prediction `(B, C, h, w)`, see `DiffusersDenoiser`."""
        height, width = noisy.shape[-2:]
        grid = pad(grid_positions(height, width, noisy.device), (1, 1))
        references, rest = inputs["references"], {name: part for name, part in inputs.items() if name != "references"}
        images, positions = [noisy], [grid]
        if references is not None:  # each at a time of its own
            images += references.to(noisy.dtype).unbind(1)
            positions += [grid + grid.new_tensor([STRIDE * (place + 1), 0, 0, 0]) for place in range(len(images) - 1)]
        tokens = self.model(
            hidden_states=torch.cat([image.flatten(2).mT for image in images], dim=1), guidance=None,
            timestep=times / PipelineFlow.UNIT, img_ids=torch.cat(positions), return_dict=False, **rest,
        )[0]  # fmt: skip
        return tokens[:, : height * width].mT.unflatten(2, (height, width))


class Flux2Klein(TransformerFamily):
    """FLUX.2 klein: the base checkpoints, and those that are distilled into few steps."""

    pipeline = "Flux2KleinPipeline"
    transformer = Flux2Transformer2DModel
    autoencoder = AutoencoderKLFlux2
    codec, denoiser = Flux2Codec, Flux2Denoiser
    text_models: ClassVar[Mapping[str, type[PreTrainedModel]]] = {"text_encoder": Qwen3Model}

    @classmethod
    def read_options(cls, index: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what the checkpoint is distilled from."""
        return {"distilled_from": BASE if index.get("is_distilled") else ""}

    @staticmethod
    def noise_process(scheduler: FlowMatchEulerDiscreteScheduler, side: int) -> PipelineFlow:
        """Returns the noise process, whose shift depends on the number of steps."""
        return PipelineFlow(scheduler, partial(compute_empirical_mu, side**2))

    @classmethod
    def encode_with(cls, models: TextModels, max_length: int, width: int) -> PromptEncoder:
        """Returns the text encoder, see `TransformerFamily.encode_with`."""
        model, tokenizer, _ = models["text_encoder"]
        template = split_chat_template(tokenizer, thinking=False).wrap
        return Flux2TextEncoder(model, tokenizer, max_length, template, LAYERS)
