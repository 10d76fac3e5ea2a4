"""The generator's models as transformers and diffusers call them, without anything of PMG around them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

from pmg.models.diffusion.generator import DiffusionGenerator
from pmg.models.language.language_model import LanguageModel


@dataclass(frozen=True, eq=False)
class Texts:
    """Encoded texts: `tokens` `(B, L, D)`, bool `mask` `(B, L)` and `pooled` vectors `(B, D)`."""

    tokens: Tensor
    mask: Tensor
    pooled: Tensor


@dataclass(frozen=True)
class PlainModels:
    """Frozen models.

    Attributes:
        autoencoder: of diffusers.
        mean: of each channel of its latents, `(1, C, 1, 1)`.
        deviation: of each channel.
        denoiser: UNet of diffusers, with diffusers' own attention; predicts the velocity of a flow.
        text_model: of transformers.
        tokenizer: of the text model.
    """

    autoencoder: Any
    mean: Tensor
    deviation: Tensor
    denoiser: Any
    text_model: Any
    tokenizer: Any

    def write(self, texts: Sequence[str]) -> Texts:
        """Encodes texts, padded to the longest."""
        batch = self.tokenizer(list(texts), padding=True, return_tensors="pt")
        tokens, mask = self.text_model(**batch).last_hidden_state, batch.attention_mask[..., None]
        pooled = F.normalize((tokens * mask).sum(1) / mask.sum(1), dim=-1) * tokens.shape[-1] ** 0.5
        return Texts(tokens * mask, batch.attention_mask.bool(), pooled)

    def encode(self, pictures: Tensor) -> Tensor:
        """Returns normalised latents of pictures `(B, 3, H, W)`."""
        return (self.autoencoder.encode(pictures).latent - self.mean) / self.deviation

    def decode(self, latents: Tensor) -> Tensor:
        """Returns pictures in [-1, 1] of normalised latents."""
        return self.autoencoder.decode(latents * self.deviation + self.mean).sample.clamp(-1, 1)

    def predict(self, noisy: Tensor, times: Tensor, texts: Texts, soft_mean: Tensor) -> Tensor:
        """Returns the velocity `(B, C, h, w)`.

        Args:
            noisy: latents `(B, C, h, w)`.
            times: from 0 to 1000, `(B,)`.
            texts: all tokens of a row in one sequence, and the target's pooled vector.
            soft_mean: mean of the soft tokens, `(B, D)`; zero where there are none.
        """
        pooled = torch.cat([texts.pooled, soft_mean], 1)
        return self.denoiser(noisy, times, texts.tokens, pooled, encoder_attention_mask=texts.mask).sample.float()


def plain_models(generator: DiffusionGenerator) -> PlainModels:
    """Returns the models of the generator of looks, on copies of the same weights."""
    codec, text, denoiser = generator.codec, generator.text_encoder, copy.deepcopy(generator.denoiser.model)
    for layer in denoiser.modules():
        if isinstance(layer, Attention):
            layer.set_processor(AttnProcessor2_0())
    autoencoder = copy.deepcopy(codec.autoencoder).to(memory_format=torch.contiguous_format)
    return PlainModels(autoencoder, codec.mean, codec.deviation, denoiser, text.model, text.tokenizer)


def plain_language_model(language_model: LanguageModel) -> Any:
    """Returns the model of transformers alone, with its own attention."""
    model = copy.deepcopy(language_model.model)
    model.set_attn_implementation("sdpa")
    return model
