"""Stable Diffusion 3 and 3.5, from a hub id or a diffusers folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import AutoencoderKL, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from transformers import CLIPTextModelWithProjection, T5EncoderModel

from pmg.configuration.ranges import Count
from pmg.domain import PmgError
from pmg.families.common.sd3_denoiser import SD3Denoiser
from pmg.families.common.sd3_text_encoder import SD3TextEncoder
from pmg.models.diffusion.generator import DiffusionGenerator
from pmg.models.diffusion.interfaces import PromptEncoder
from pmg.models.diffusion.latent_codec import AutoencoderKLCodec, latent_size
from pmg.models.diffusion.noise_processes import FlowMatching
from pmg.models.diffusion.text_tower import TextTower
from pmg.models.loading.checkpoints import load_checkpoint, load_tokenizer
from pmg.models.loading.device import torch_type
from pmg.models.loading.weight_sources import loading, resolve_source

PIPELINE = "StableDiffusion3Pipeline"
T5_LENGTH = 256  # tokens, as in diffusers' pipeline


def load_stable_diffusion_3(
    source: str, dtype: str = "float32", t5: bool = True, size: Count | None = None
) -> DiffusionGenerator:
    """Loads a checkpoint, frozen; the shift of the times and the sampler are the checkpoint's own.

    Args:
        source: hub id or folder, in the layout of diffusers.
        dtype: name of the type of denoiser and text encoders; the autoencoder stays in float32.
        t5: whether texts go through T5, too: half of the memory, for long prompts.
        size: of the images in pixels; None: what the denoiser was trained at.

    Raises:
        PmgError: the source is missing or damaged, or of another kind.
    """
    path = resolve_source(source)
    weights: dict[str, Any] = {"dtype": torch_type(dtype)}
    hint = "; generator.source is a hub id or a folder in the layout of diffusers (model_index.json, transformer, …)"
    with loading("a generator", path, hint):
        index = DiffusionPipeline.load_config(path)
        if index.get("_class_name") != PIPELINE:
            raise PmgError(f"{path} holds a {index.get('_class_name')}. Name a {PIPELINE}.")
        transformer = load_checkpoint(SD3Transformer2DModel, path, "transformer", **weights)
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(path, subfolder="scheduler")
        text_encoder = _load_text_encoder(path, transformer.config.joint_attention_dim, t5, weights)
        autoencoder = load_checkpoint(AutoencoderKL, path, "vae")
    return compose_sd3(autoencoder, transformer, scheduler, text_encoder, size)


def compose_sd3(
    autoencoder: AutoencoderKL, transformer: SD3Transformer2DModel, scheduler: FlowMatchEulerDiscreteScheduler,
    text_encoder: PromptEncoder, size: int | None = None,
) -> DiffusionGenerator:  # fmt: skip
    """Returns a frozen generator of a transformer in the latent space of an `AutoencoderKL`.

    Args:
        autoencoder: images <-> latents.
        transformer: the denoiser.
        scheduler: the sampler, whose shift the times of training take.
        text_encoder: encodes prompts.
        size: of the images in pixels; None: what the transformer was trained at.

    Raises:
        PmgError: `size` is none that the models can make, or the scheduler shifts each image size differently.
    """
    if scheduler.config.use_dynamic_shifting:
        raise PmgError("schedulers with use_dynamic_shifting=true are not supported. Set it to false, and a shift.")
    codec = AutoencoderKLCodec(autoencoder)
    denoiser = SD3Denoiser(transformer, latent_size(codec, size))
    process = FlowMatching(shift=scheduler.config.shift, sampler=scheduler)
    return DiffusionGenerator(codec, denoiser, process, text_encoder).freeze()


def _load_text_encoder(path: str, width: int, t5: bool, weights: Mapping[str, Any]) -> SD3TextEncoder:
    clips = [
        _load_tower(path, number, CLIPTextModelWithProjection, weights, layer=-2, pooled="text_embeds")
        for number in ("", "_2")
    ]
    long = _load_tower(path, "_3", T5EncoderModel, weights, max_length=T5_LENGTH) if t5 else None
    return SD3TextEncoder(clips, long, width, T5_LENGTH)


def _load_tower(
    path: str, number: str, kind: Any, weights: Mapping[str, Any], max_length: int | None = None, **options: Any
) -> TextTower:
    """Loads one of the text models, by the names that diffusers gives them."""
    model = load_checkpoint(kind, path, f"text_encoder{number}", **weights)
    tokenizer = load_tokenizer(path, model, subfolder=f"tokenizer{number}")
    return TextTower(model, tokenizer, max_length or tokenizer.model_max_length, **options)
