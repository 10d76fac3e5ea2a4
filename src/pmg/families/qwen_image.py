"""Qwen-Image (Wu et al. 2025): a double-stream transformer over Qwen2.5-VL's last hidden states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_qwenimage import QwenDoubleStreamAttnProcessor2_0
from torch import Tensor
from transformers import PreTrainedModel, Qwen2_5_VLForConditionalGeneration

from pmg.domain import PmgError
from pmg.families.common.language_text_encoder import LanguageTextEncoder
from pmg.families.common.transformer_family import PackedDenoiser, PipelineFlow, TextModels, TransformerFamily
from pmg.models.diffusion.conditioning import Condition
from pmg.models.diffusion.interfaces import Capabilities, PromptEncoder
from pmg.models.diffusion.latent_codec import NormalizingCodec
from pmg.models.diffusion.sampling import combine
from pmg.models.diffusion.sequences import PATCH, hide, pack, token_bias, unpack, visible_first

TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
SKIPPED = 34  # tokens of the template before the text, as in diffusers' pipeline


class QwenImageCodec(NormalizingCodec):
    """The autoencoder of Qwen-Image, which is made for videos, on single images; its config normalises latents."""

    def __init__(self, autoencoder: AutoencoderKLQwenImage) -> None:
        super().__init__(autoencoder, autoencoder.config.z_dim, autoencoder.spatial_compression_ratio)

    def _encode(self, images: Tensor) -> Tensor:
        return self.autoencoder.encode(images[:, :, None]).latent_dist.mode()[:, :, 0]

    def _decode(self, latents: Tensor) -> Tensor:
        return self.autoencoder.decode(latents[:, :, None]).sample[:, :, 0]


class BiasedDoubleStreamAttention(QwenDoubleStreamAttnProcessor2_0):
    """Attention with a bias on the logits of text tokens as keys; the published one takes a mask of booleans."""

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor, *,
        encoder_hidden_states_mask: Tensor | None = None, attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None, token_bias: Tensor | None = None,
    ) -> Any:  # fmt: skip
        """Returns image and text tokens, as the parent class does; `token_bias` is `(B, L)`, of the text tokens."""
        # the parent appends a mask of ones for the image, which as a bias is 1: the text's is relative to that
        relative = None if token_bias is None else token_bias + 1
        return super().__call__(attn, hidden_states, encoder_hidden_states, relative, None, image_rotary_emb)


class QwenImageConditionAdapter:
    """Conditions for Qwen-Image, which normalises text tokens; a token's position is its place among visible ones."""

    supports = Capabilities(attention_bias=True, embedding_scale=False)

    def prepare(self, condition: Condition, guidance: float | None = None, reused: bool = False) -> dict[str, Any]:
        """Returns keyword arguments of the transformer, see `ConditionAdapter`."""
        condition = visible_first(condition)
        return {"encoder_hidden_states": hide(condition), "attention_kwargs": {"token_bias": token_bias(condition)}}


class QwenImageDenoiser(PackedDenoiser):
    """The transformer of Qwen-Image; PmgError if a checkpoint takes more than a text (its settings in `refused`)."""

    adapter_type: ClassVar[type[QwenImageConditionAdapter]] = QwenImageConditionAdapter
    refused: tuple[str, ...] = ("zero_cond_t", "use_additional_t_cond", "use_layer3d_rope", "guidance_embeds")

    def __init__(self, model: QwenImageTransformer2DModel, sample_size: int) -> None:
        super().__init__(model, self.adapter_type(), sample_size)
        if any(model.config[name] for name in self.refused):
            raise PmgError("this Qwen-Image checkpoint takes more than a text. Use a text-to-image checkpoint.")
        for block in model.transformer_blocks:
            block.attn.set_processor(BiasedDoubleStreamAttention())

    def forward(self, noisy: Tensor, times: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Returns the prediction `(B, C, h, w)`, see `DiffusersDenoiser`."""
        return self.denoise(noisy, times, inputs)

    def denoise(
        self, noisy: Tensor, times: Tensor, inputs: Mapping[str, Any], frames: Sequence[Tensor] = ()
    ) -> Tensor:
        """Returns the prediction, with further frames `(B, C, h, w)` behind the noisy image."""
        height, width = (side // PATCH for side in noisy.shape[-2:])
        shown = (noisy, *frames)
        tokens = self.model(
            hidden_states=torch.cat([pack(frame) for frame in shown], dim=1), timestep=times / PipelineFlow.UNIT,
            img_shapes=[[(1, height, width)] * len(shown)] * len(noisy), return_dict=False, **inputs,
        )[0]  # fmt: skip
        return unpack(tokens[:, : height * width], noisy.shape[-2])


def mix_rescaled(outputs: Sequence[Tensor], coefficients: Sequence[float]) -> Tensor:
    """Returns `combine`, with each image token at the length that it has in the last branch of positive coefficient.

    That branch sees all blocks of the condition. Diffusers' pipeline guides so. Outputs are `(B, C, h, w)`.
    """
    mixed = combine(outputs, coefficients)
    if len(outputs) == 1:
        return mixed
    whole = [output for output, share in zip(outputs, coefficients, strict=True) if share > 0][-1]
    tokens, lengths = pack(mixed), pack(whole).norm(dim=-1, keepdim=True)
    return unpack(tokens * (lengths / tokens.norm(dim=-1, keepdim=True)), mixed.shape[-2])


class QwenImage(TransformerFamily):
    """Qwen-Image."""

    pipeline = "QwenImagePipeline"
    transformer = QwenImageTransformer2DModel
    autoencoder = AutoencoderKLQwenImage
    codec, denoiser, mix = QwenImageCodec, QwenImageDenoiser, mix_rescaled
    text_models: ClassVar[Mapping[str, type[PreTrainedModel]]] = {"text_encoder": Qwen2_5_VLForConditionalGeneration}

    @classmethod
    def encode_with(cls, models: TextModels, max_length: int, width: int) -> PromptEncoder:
        """Returns the text encoder, see `TransformerFamily.encode_with`."""
        model, tokenizer, _ = models["text_encoder"]
        return LanguageTextEncoder(
            model.model, tokenizer, max_length, TEMPLATE.format, (-1,), SKIPPED, head=model.lm_head
        )
