"""Z-Image (Alibaba 2025): a single-stream transformer over Qwen3's hidden states, with time and sign reversed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, ZImageTransformer2DModel
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import PreTrainedModel, Qwen3Model

from pmg.configuration.ranges import Count
from pmg.families.common.language_text_encoder import LanguageTextEncoder
from pmg.families.common.transformer_family import PatchDenoiser, PipelineFlow, TextModels, TransformerFamily
from pmg.models.diffusion.conditioning import Condition, TextBlock
from pmg.models.diffusion.generator import DiffusionGenerator
from pmg.models.diffusion.interfaces import Capabilities, PromptEncoder
from pmg.models.diffusion.latent_codec import AutoencoderKLCodec
from pmg.models.diffusion.sequences import PATCH, grid_positions, hide, token_bias, visible_first
from pmg.models.diffusion.text_encoder import as_text
from pmg.models.language.chat_template import split_chat_template
from pmg.models.loading.quantization import Quantization

MULTIPLE = 32  # to which the lengths of target and image are padded
LAYER = f"{PATCH}-1"  # name of the embedding of 2 x 2 latents of one frame
Z_IMAGE = "Tongyi-MAI/Z-Image"


class ZImageTextEncoder(LanguageTextEncoder):
    """The last hidden states but one; targets are padded with visible zeros, where the transformer has its own token.

    The pipeline pads a text to a multiple of 32 tokens.
    """

    def _encode(self, texts: list[str]) -> TextBlock:
        block = as_text(self.states(texts))
        length = block.mask.shape[1]
        padded = block.padded(length + -length % MULTIPLE)
        visible = block.mask.sum(1, keepdim=True)
        shown = torch.arange(padded.mask.shape[1], device=visible.device) < visible + -visible % MULTIPLE
        return TextBlock(padded.tokens, shown, block.pooled)

    _encode_unpadded = LanguageTextEncoder._encode


class ZImageConditionAdapter:
    """Conditions for Z-Image, which normalises text tokens.

    The text's length shifts the image's positions. Here the target's does, and blocks behind the target have positions
    behind the image: so the image has the same positions in all branches of the guidance, whatever is hidden.
    """

    def __init__(self, distilled_from: str = "") -> None:
        self.supports = Capabilities(attention_bias=True, embedding_scale=False, distilled_from=distilled_from)

    def prepare(self, condition: Condition, guidance: float | None = None, reused: bool = False) -> dict[str, Any]:
        """Returns keyword arguments of `MaskedZImageTransformer`, see `ConditionAdapter`."""
        condition = visible_first(condition)
        tokens, length = hide(condition), condition.target_length
        length = condition.mask.sum(1) if length is None else length
        order = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
        behind = order > length[:, None]
        return {
            "tokens": tokens,
            "padding": (tokens == 0).all(-1) & ~behind,
            "positions": order + behind.long(),
            "image_position": length + 1,
            "token_bias": token_bias(condition),
        }


class MaskedZImageTransformer(ZImageTransformer2DModel):
    """The transformer of Z-Image on batches, with a bias for each text token.

    The published `forward` takes lists, pads each text to a multiple of 32 and has neither mask nor positions.
    """

    def forward(
        self, latents: Tensor, times: Tensor, *, tokens: Tensor, padding: Tensor, positions: Tensor,
        image_position: Tensor, token_bias: Tensor,
    ) -> Tensor:  # fmt: skip
        """Returns the velocity `(B, C, h, w)` from noise to image, at `times` `(B,)` in [0, 1], 1 is the image.

        Text tokens are `(B, L, D)`; of each, `(B, L)`: whether it is the learned `padding`, its position on the first
        axis, and what is added to its logits as a key. The image has one position on that axis, `(B,)`.
        """
        height, width = (side // PATCH for side in latents.shape[-2:])
        count, extra = height * width, -height * width % MULTIPLE
        time = self.t_embedder(times * self.t_scale).type_as(latents)
        patches = latents.unflatten(3, (width, PATCH)).unflatten(2, (height, PATCH)).permute(0, 2, 4, 3, 5, 1)
        image = self.all_x_embedder[LAYER](patches.flatten(3).flatten(1, 2))
        image = torch.cat([image, self.x_pad_token.to(image).expand(len(image), extra, -1)], 1)
        text = torch.where(padding[..., None], self.cap_pad_token.to(tokens), self.cap_embedder(tokens))
        grid = grid_positions(height, width, latents.device).expand(len(latents), -1, -1)
        first = image_position[:, None, None].expand(-1, count, -1)
        image_places = self._rotations(pad(torch.cat([first, grid], -1), (0, 0, 0, extra)))
        text_places = self._rotations(pad(positions[..., None], (0, 2)))
        for layer in self.noise_refiner:
            image = self._run(layer, image, None, image_places, time)
        for layer in self.context_refiner:
            text = self._run(layer, text, token_bias[:, None, None], text_places)
        joint, places = torch.cat([image, text], 1), torch.cat([image_places, text_places], 1)
        bias = pad(token_bias, (count + extra, 0))[:, None, None]
        for layer in self.layers:
            joint = self._run(layer, joint, bias, places, time)
        patches = self.all_final_layer[LAYER](joint, c=time)[:, :count]
        patches = patches.unflatten(1, (height, width)).unflatten(3, (PATCH, PATCH, -1)).permute(0, 5, 1, 3, 2, 4)
        return patches.flatten(4).flatten(2, 3)

    def _run(self, layer: nn.Module, *inputs: Tensor | None) -> Tensor:
        """Returns a layer's output; its activations are computed again in the backward pass under checkpointing."""
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return self._gradient_checkpointing_func(layer, *inputs)
        return layer(*inputs)

    def _rotations(self, positions: Tensor) -> Tensor:
        """Returns the rotary embedding, complex `(B, n, head_dim / 2)`, of positions `(B, n, 3)`."""
        return self.rope_embedder(positions.flatten(0, 1)).unflatten(0, positions.shape[:2])


class ZImageDenoiser(PatchDenoiser):
    """The transformer of Z-Image, whose time runs from noise to image, as does its velocity."""

    def __init__(self, model: MaskedZImageTransformer, sample_size: int, distilled_from: str = "") -> None:
        super().__init__(model, ZImageConditionAdapter(distilled_from), sample_size)

    def forward(self, noisy: Tensor, times: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Returns the prediction `(B, C, h, w)`, see `DiffusersDenoiser`."""
        return -self.model(noisy, (PipelineFlow.UNIT - times) / PipelineFlow.UNIT, **inputs)


class ZImage(TransformerFamily):
    """Z-Image, and Z-Image-Turbo, which is distilled into few steps."""

    pipeline = "ZImagePipeline"
    transformer = MaskedZImageTransformer
    autoencoder = AutoencoderKL
    codec, denoiser = AutoencoderKLCodec, ZImageDenoiser
    text_models: ClassVar[Mapping[str, type[PreTrainedModel]]] = {"text_encoder": Qwen3Model}

    @classmethod
    def load(
        cls, source: str, dtype: str = "float32", size: Count | None = None, max_length: Count = 512,
        gradient_checkpointing: bool = False, *, quantization: Quantization | None = None, text_on_cpu: bool = False,
        distilled: bool = False,
    ) -> DiffusionGenerator:  # fmt: skip
        """Loads a checkpoint, see `TransformerFamily.load`; whether it is `distilled` its config doesn't say."""
        return cls._load(
            source, dtype, size, max_length, gradient_checkpointing,
            quantization=quantization, text_on_cpu=text_on_cpu,
            distilled_from=Z_IMAGE if distilled else "",
        )  # fmt: skip

    @classmethod
    def encode_with(cls, models: TextModels, max_length: int, width: int) -> PromptEncoder:
        """Returns the text encoder, see `TransformerFamily.encode_with`."""
        model, tokenizer, _ = models["text_encoder"]
        template = split_chat_template(tokenizer, thinking=True).wrap
        return ZImageTextEncoder(model, tokenizer, max_length, template, (-2,))

    @classmethod
    def text_width(cls, config: Mapping[str, Any]) -> int:
        """Returns the width of the text tokens that a transformer of a config reads."""
        return int(config["cap_feat_dim"])
