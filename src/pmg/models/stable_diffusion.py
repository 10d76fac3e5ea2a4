"""Stable Diffusion 1, 2 and XL, their distilled relatives too, from a hub id or a diffusers folder."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDPMScheduler, DiffusionPipeline

from pmg.domain import PmgError
from pmg.models.clip_text import ClipTextEncoder
from pmg.models.generator import Generator
from pmg.models.sources import loading, resolve_source
from pmg.ranges import Count

PIPELINES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "LatentConsistencyModelPipeline")
SAMPLERS = ("dpm", "checkpoint")


def load_stable_diffusion(
    source: str, dtype: str = "float32", sampler: str = "dpm", size: Count | None = None
) -> Generator:
    """Loads a checkpoint, frozen; the prediction type and the noise schedule are the checkpoint's own.

    Args:
        source: hub id or folder, in the layout of diffusers.
        dtype: name of the type of denoiser and text encoders; the autoencoder stays in float32, in which it was made.
        sampler: ``dpm``: DPM-Solver++ on the checkpoint's schedule; ``checkpoint``: the checkpoint's own sampler,
            which distilled models (LCM, Turbo) need.
        size: of the images in pixels; None: what the denoiser was trained at.

    Raises:
        PmgError: the source is missing or damaged, or of another kind.
    """
    if sampler not in SAMPLERS:
        raise PmgError(f"generator.sampler is '{sampler}'; known: {', '.join(SAMPLERS)}")
    pipe = _load(resolve_source(source), getattr(torch, dtype))
    text_encoder = ClipTextEncoder(_towers(pipe), bool(pipe.config.get("force_zeros_for_empty_prompt")))
    own = pipe.scheduler if sampler == "checkpoint" else None
    noise_scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    return Generator(pipe.vae.float(), pipe.unet, noise_scheduler, text_encoder, own, size).freeze()


def _load(path: str, dtype: torch.dtype) -> Any:
    """The checkpoint as diffusers loads it, without its safety checker, which reads other models' weights.

    Raises:
        PmgError: it is missing, damaged, or of another kind.
    """
    hint = (
        "; generator.source is a hub id or a folder in the layout of diffusers (model_index.json, unet, vae, "
        "text_encoder, tokenizer, scheduler)"
    )
    with loading("a generator", path, hint):
        kind = DiffusionPipeline.load_config(path).get("_class_name")
        if kind not in PIPELINES:
            raise PmgError(f"{path} holds a {kind}; known: {', '.join(PIPELINES)}")
        without = {} if "XL" in kind else {"safety_checker": None, "requires_safety_checker": False}
        return DiffusionPipeline.from_pretrained(path, dtype=dtype, **without)


def _towers(pipe: Any) -> list[Any]:
    """Text towers with their tokenizers, in the denoiser's order."""
    first = [(pipe.text_encoder, pipe.tokenizer)]
    return [*first, (pipe.text_encoder_2, pipe.tokenizer_2)] if hasattr(pipe, "text_encoder_2") else first
