"""FLUX.1 (Black Forest Labs 2024): CLIP's pooled vector, T5's tokens, guidance as an input of the dev checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import Tensor
from transformers import CLIPTextModel, PreTrainedModel, T5EncoderModel

from pmg.families.common.transformer_family import PackedDenoiser, PipelineFlow, TextModels, TransformerFamily
from pmg.models.diffusion.conditioning import Condition, TextBlock
from pmg.models.diffusion.interfaces import Capabilities, PromptEncoder
from pmg.models.diffusion.latent_codec import AutoencoderKLCodec
from pmg.models.diffusion.sequences import PATCH, grid_positions, hide, joint_bias, pack, unpack
from pmg.models.diffusion.text_encoder import WORDS, FrozenTextEncoder, TextSizes, TextTower

BASE = "black-forest-labs/FLUX.1-dev"


class Flux1TextEncoder(FrozenTextEncoder):
    """Tokens of T5, all visible, and the pooled vector of CLIP, whose length limits texts."""

    texts_at_once: ClassVar[int] = 32  # of T5 with 512 tokens each

    def __init__(self, clip: TextTower, t5: TextTower) -> None:
        super().__init__(clip.max_length, clip.tokenizer)
        self.clip, self.t5, self.width = clip, t5, t5.width

    def token_ids(self, text: str) -> list[int]:
        """Returns the tokens of a text by T5, special tokens included."""
        return list(self.t5.tokenizer(text)["input_ids"])

    def count_tokens(self, text: str) -> int:
        """Returns the length of a text in tokens of CLIP, special tokens included."""
        return self.clip.count_tokens(text)

    def longest(self) -> TextSizes:
        """Returns the sizes of a full target and of usual keywords, see `FrozenTextEncoder.longest`."""
        length = self.t5.max_length
        return TextSizes(length, min(WORDS, length), self.width, self.clip.pooled_width)

    def _encode(self, texts: list[str], padded: bool = True) -> TextBlock:
        self.check_lengths(texts)
        block, pooled = self.t5(texts, padded), self.clip(texts).pooled
        return TextBlock(block.tokens, block.mask, pooled)

    def _encode_unpadded(self, texts: list[str]) -> TextBlock:
        return self._encode(texts, padded=False)


class Flux1ConditionAdapter:
    """Conditions for FLUX.1, whose text tokens have no positions.

    Transformers without a `guidance_input` (the guidance scale) are step-distilled.
    """

    def __init__(self, guidance_input: bool, image_tokens: int) -> None:
        distilled = "" if guidance_input else BASE
        self.supports = Capabilities(attention_bias=True, guidance_input=guidance_input, distilled_from=distilled)
        self.image_tokens = image_tokens

    def prepare(self, condition: Condition, guidance: float | None = None, reused: bool = False) -> dict[str, Any]:
        """Returns keyword arguments of the transformer, see `ConditionAdapter`."""
        tokens = hide(condition)
        inputs: dict[str, Any] = {
            "encoder_hidden_states": tokens,
            "pooled_projections": condition.pooled,
            "txt_ids": tokens.new_zeros(tokens.shape[1], 3, dtype=torch.float32),
            "joint_attention_kwargs": {"attention_mask": joint_bias(condition, self.image_tokens)},
        }
        if self.supports.guidance_input:
            scale = 1.0 if guidance is None else guidance
            inputs["guidance"] = tokens.new_full((len(tokens),), scale, dtype=torch.float32)
        return inputs


class Flux1Denoiser(PackedDenoiser):
    """The transformer of FLUX.1."""

    def __init__(self, model: FluxTransformer2DModel, sample_size: int) -> None:
        adapter = Flux1ConditionAdapter(model.config.guidance_embeds, (sample_size // PATCH) ** 2)
        super().__init__(model, adapter, sample_size)

    def forward(self, noisy: Tensor, times: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Returns the prediction `(B, C, h, w)`, see `DiffusersDenoiser`."""
        height, width = (side // PATCH for side in noisy.shape[-2:])
        positions = torch.nn.functional.pad(grid_positions(height, width, noisy.device).float(), (1, 0))
        tokens = self.model(
            hidden_states=pack(noisy), timestep=times / PipelineFlow.UNIT, img_ids=positions, return_dict=False,
            **inputs,
        )[0]  # fmt: skip
        return unpack(tokens, noisy.shape[-2])


class Flux1(TransformerFamily):
    """FLUX.1 dev, which takes the guidance scale as an input, and schnell, which is distilled into few steps."""

    pipeline = "FluxPipeline"
    transformer = FluxTransformer2DModel
    autoencoder = AutoencoderKL
    codec, denoiser = AutoencoderKLCodec, Flux1Denoiser
    text_models: ClassVar[Mapping[str, type[PreTrainedModel]]] = {
        "text_encoder": CLIPTextModel,
        "text_encoder_2": T5EncoderModel,
    }

    @classmethod
    def encode_with(cls, models: TextModels, max_length: int, width: int) -> PromptEncoder:
        """Returns the text encoder, see `TransformerFamily.encode_with`; `max_length` is T5's."""
        (clip, tokenizer, _), (t5, long, _) = models["text_encoder"], models["text_encoder_2"]
        tower = TextTower(clip, tokenizer, tokenizer.model_max_length, pooled="pooler_output")
        return Flux1TextEncoder(tower, TextTower(t5, long, max_length))
