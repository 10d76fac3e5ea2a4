"""Stable Diffusion 3 and 3.5 (Esser et al. 2024): a transformer over the tokens of two CLIP models and T5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import CLIPTextModelWithProjection, PreTrainedModel, T5EncoderModel

from pmg.configuration.ranges import Count
from pmg.domain import PmgError
from pmg.families.common.transformer_family import PatchDenoiser, TextModels, TransformerFamily
from pmg.models.diffusion.conditioning import Block, Condition, TextBlock
from pmg.models.diffusion.generator import DiffusionGenerator
from pmg.models.diffusion.interfaces import Capabilities, PromptEncoder
from pmg.models.diffusion.latent_codec import AutoencoderKLCodec
from pmg.models.diffusion.noise_processes import FlowMatching
from pmg.models.diffusion.sequences import hide, token_bias
from pmg.models.diffusion.text_encoder import FrozenTextEncoder, TextSizes, TextTower
from pmg.models.loading.quantization import Quantization

T5_LENGTH = 256  # tokens, as in diffusers' pipeline
CLIPS = {"text_encoder": CLIPTextModelWithProjection, "text_encoder_2": CLIPTextModelWithProjection}


class SD3ConditionAdapter:
    """Conditions for transformers with a `BiasedJointAttention`.

    Soft tokens come as the last of ``condition.tokens`` (`pmg.models.diffusion.conditioning.join`). The mask becomes a
    part of the bias: minus infinity for hidden tokens. Text tokens change from layer to layer and
    with the time, so that nothing can be computed in advance.
    """

    supports = Capabilities(attention_bias=True)

    def prepare(self, condition: Condition, guidance: float | None = None, reused: bool = False) -> dict[str, Any]:
        """Returns keyword arguments of the transformer, see `ConditionAdapter`."""
        return {
            "encoder_hidden_states": hide(condition),
            "pooled_projections": condition.pooled,
            "joint_attention_kwargs": {"token_bias": token_bias(condition)},
        }


class BiasedJointAttention:
    """Attention of image and text tokens to each other, with a bias on the logits of text tokens as keys.

    The published attention has no mask: all text tokens count. Here hidden tokens get a bias of minus infinity as
    keys, in all layers, so that neither the image nor the other text tokens depend on them. What hidden tokens compute
    themselves is never read.
    """

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None, token_bias: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:  # fmt: skip
        """Returns image tokens `(B, N, D)`, and text tokens `(B, L, D)` where there are some.

        `token_bias` `(B, L)` is added to the logits of the text tokens; without these, the image attends to itself.
        """
        places = hidden_states.shape[1]
        image = _heads(attn, hidden_states, (attn.to_q, attn.to_k, attn.to_v), (attn.norm_q, attn.norm_k))
        if encoder_hidden_states is None:
            query, key, value = image
            return _project(attn, _merge(scaled_dot_product_attention(query, key, value)))
        text = _heads(
            attn, encoder_hidden_states, (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj),
            (attn.norm_added_q, attn.norm_added_k),
        )  # fmt: skip
        query, key, value = (torch.cat(pair, dim=2) for pair in zip(image, text, strict=True))
        bias = None if token_bias is None else pad(token_bias, (places, 0))[:, None, None].to(query.dtype)
        merged = _merge(scaled_dot_product_attention(query, key, value, bias))
        image_states, text_states = merged[:, :places], merged[:, places:]
        last = attn.context_pre_only  # the last layer drops the text
        return _project(attn, image_states), text_states if last else attn.to_add_out(text_states)


def _heads(
    attn: Attention, states: Tensor, projections: tuple[nn.Module, ...], norms: tuple[nn.Module | None, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns query, key and value in heads, `(B, heads, N, head_dim)` each; query and key normalised."""
    query, key, value = (project(states).unflatten(-1, (attn.heads, -1)).transpose(1, 2) for project in projections)
    norm_query, norm_key = norms
    return norm_query(query) if norm_query else query, norm_key(key) if norm_key else key, value


def _merge(heads: Tensor) -> Tensor:
    """Returns heads `(B, heads, N, head_dim)` concatenated, `(B, N, D)`."""
    return heads.transpose(1, 2).flatten(2)


def _project(attn: Attention, states: Tensor) -> Tensor:
    """Returns the output projection, with dropout."""
    return attn.to_out[1](attn.to_out[0](states))


class SD3Denoiser(PatchDenoiser):
    """The multimodal diffusion transformer (Esser et al. 2024), with hidden and weighted text tokens.

    `sample_size` is the side of the latents; None: what the transformer was trained at.
    """

    def __init__(self, model: SD3Transformer2DModel, sample_size: int | None = None) -> None:
        super().__init__(model, SD3ConditionAdapter(), sample_size)
        self.model.set_attn_processor(BiasedJointAttention())

    def forward(self, noisy: Tensor, times: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Returns the prediction `(B, C, h, w)`, see `DiffusersDenoiser`."""
        return self.model(hidden_states=noisy, timestep=times, **inputs).sample


class SD3TextEncoder(FrozenTextEncoder):
    """Tokens of the CLIP models, concatenated along their width and padded with zeros, followed by those of T5.

    The pooled vectors of the CLIP models are concatenated (Esser et al. 2024, section 4). Tokens get the transformer's
    `width`. Without `t5` there are `t5_length` visible tokens of zeros, with which the transformer was trained, too.
    """

    t5: TextTower | None

    def __init__(self, clips: Sequence[TextTower], t5: TextTower | None, width: int, t5_length: int = 256) -> None:
        super().__init__(clips[0].max_length, clips[0].tokenizer)
        self.clips, self.t5 = nn.ModuleList(clips), t5
        self.width, self.t5_length = width, t5_length
        long = t5_length if t5 is None else t5.max_length
        self._longest = self.max_length + (long if clips[0].padded else 0)
        self._pooled_width = sum(clip.pooled_width for clip in clips)

    def longest(self) -> TextSizes:
        """Returns the sizes of all texts, which are padded, see `FrozenTextEncoder.longest`."""
        return TextSizes(self._longest, self._longest, self.width, self._pooled_width)

    def _encode(self, texts: list[str]) -> TextBlock:
        self.check_lengths(texts)
        blocks = [clip(texts) for clip in self.clips]
        clip_tokens = torch.cat([block.tokens for block in blocks], dim=-1)
        if self.t5 is None:
            zeros = clip_tokens.new_zeros(len(texts), self.t5_length, self.width)
            long = Block(zeros, torch.ones(zeros.shape[:2], dtype=torch.bool, device=zeros.device))
        else:
            long = self.t5(texts)
        tokens = torch.cat([pad(clip_tokens, (0, self.width - clip_tokens.shape[-1])), long.tokens], dim=1)
        mask = torch.cat([blocks[0].mask, long.mask], dim=1)
        return TextBlock(tokens, mask, torch.cat([block.pooled for block in blocks], dim=-1))


class StableDiffusion3(TransformerFamily):
    """Stable Diffusion 3 and 3.5."""

    pipeline = "StableDiffusion3Pipeline"
    transformer = SD3Transformer2DModel
    autoencoder = AutoencoderKL
    codec, denoiser, default_size = AutoencoderKLCodec, SD3Denoiser, None
    text_models: ClassVar[Mapping[str, type[PreTrainedModel]]] = {**CLIPS, "text_encoder_3": T5EncoderModel}

    @classmethod
    def load(
        cls, source: str, dtype: str = "float32", size: Count | None = None, max_length: Count = T5_LENGTH,
        gradient_checkpointing: bool = False, *, quantization: Quantization | None = None, text_on_cpu: bool = False,
        t5: bool = True,
    ) -> DiffusionGenerator:  # fmt: skip
        """Loads a checkpoint, see `TransformerFamily.load`; without a `size`, images are as large as in its training.

        T5 pads texts to `max_length` tokens; a text is as long as CLIP takes. `t5` is whether texts go through T5,
        too: half of the memory, for long prompts.
        """
        return (cls if t5 else StableDiffusion3WithoutT5)._load(
            source, dtype, size, max_length, gradient_checkpointing, quantization=quantization, text_on_cpu=text_on_cpu
        )

    @staticmethod
    def noise_process(scheduler: FlowMatchEulerDiscreteScheduler, side: int) -> FlowMatching:
        """Returns the noise process; PmgError if the scheduler shifts each image size differently."""
        if scheduler.config.use_dynamic_shifting:
            raise PmgError(
                "schedulers with use_dynamic_shifting=true are not supported. Set it to false, and a shift."
            )
        return FlowMatching(shift=scheduler.config.shift, sampler=scheduler)

    @classmethod
    def encode_with(cls, models: TextModels, max_length: int, width: int) -> PromptEncoder:
        """Returns the text encoder, see `TransformerFamily.encode_with`; `max_length` is T5's."""
        clips = [
            TextTower(model, tokenizer, tokenizer.model_max_length, layer=-2, pooled="text_embeds")
            for model, tokenizer, _ in (models[name] for name in CLIPS)
        ]
        long = models.get("text_encoder_3")
        t5 = None if long is None else TextTower(long.model, long.tokenizer, max_length)
        return SD3TextEncoder(clips, t5, width, max_length)


class StableDiffusion3WithoutT5(StableDiffusion3):
    """The same with the CLIP models alone."""

    text_models: ClassVar[Mapping[str, type[PreTrainedModel]]] = CLIPS
