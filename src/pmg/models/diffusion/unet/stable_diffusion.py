"""Stable Diffusion 1, 2 and XL, their distilled relatives too, from a hub id or a diffusers folder."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import diffusers
import torch
from diffusers import AutoencoderKL, DDPMScheduler, DiffusionPipeline, SchedulerMixin, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pmg.configuration.ranges import Count, Positive
from pmg.domain import PmgError
from pmg.models.diffusion.conditioning import TextBlock
from pmg.models.diffusion.generator import DiffusionGenerator
from pmg.models.diffusion.interfaces import PromptEncoder
from pmg.models.diffusion.latent_codec import AutoencoderKLCodec, latent_size
from pmg.models.diffusion.noise_processes import NoiseProcess, VariancePreserving
from pmg.models.diffusion.text_encoder import FrozenTextEncoder, TextSizes, TextTower
from pmg.models.diffusion.unet.denoiser import UNetConditionAdapter, UNetDenoiser
from pmg.models.loading.checkpoints import load_checkpoint, load_tokenizer
from pmg.models.loading.device import torch_type
from pmg.models.loading.memory_tracker import recompute_activations
from pmg.models.loading.weight_sources import loading, resolve_source

XL = "StableDiffusionXLPipeline"
PIPELINES = {
    name: getattr(diffusers, name) for name in ("StableDiffusionPipeline", XL, "LatentConsistencyModelPipeline")
}


class ClipTextEncoder(FrozenTextEncoder):
    """Tokens of one or several text models, concatenated along their width; the last model pools.

    Texts are padded to the same length in all (Podell et al. 2023, section 2.1). `zero_empty`: the empty text is zeros
    (SDXL base) instead of the models' states.
    """

    def __init__(self, towers: Sequence[TextTower], zero_empty: bool = False) -> None:
        super().__init__(towers[0].max_length, towers[0].tokenizer)
        self.towers, self.zero_empty = nn.ModuleList(towers), zero_empty
        self.width, self._pooled_width = sum(tower.width for tower in towers), towers[-1].pooled_width

    def longest(self) -> TextSizes:
        """Returns the sizes of all texts, which are padded, see `FrozenTextEncoder.longest`."""
        return super().longest()._replace(pooled=self._pooled_width)

    def _encode(self, texts: list[str]) -> TextBlock:
        self.check_lengths(texts)
        blocks = [tower(texts) for tower in self.towers]
        tokens, pooled = torch.cat([block.tokens for block in blocks], dim=-1), blocks[-1].pooled
        shown = torch.tensor([bool(text) or not self.zero_empty for text in texts], device=tokens.device)
        return TextBlock(tokens * shown[:, None, None], blocks[0].mask, pooled * shown[:, None])


class StableDiffusion:
    """Stable Diffusion 1, 2 and XL, latent consistency models, and other distilled relatives."""

    @classmethod
    def load(
        cls, source: str, dtype: str = "float32", sampler: Literal["dpm", "checkpoint"] = "dpm",
        size: Count | None = None, snr_gamma: Positive | None = 5.0, distilled_from: str = "",
        *, gradient_checkpointing: bool = False,
    ) -> DiffusionGenerator:  # fmt: skip
        """Loads a checkpoint, frozen; the prediction type and the noise schedule are the checkpoint's own.

        PmgError if the source is missing or damaged, or of another kind.

        Args:
            source: hub id or folder, in the layout of diffusers.
            dtype: name of the type of denoiser and text encoders; the autoencoder stays in float32.
            sampler: ``dpm``: DPM-Solver++ on the checkpoint's schedule; ``checkpoint``: the checkpoint's own sampler,
                which distilled models (LCM, Turbo) need.
            size: of the images in pixels; None: what the denoiser was trained at.
            snr_gamma: ceiling of min-SNR loss weights; None: the plain error.
            distilled_from: see `Capabilities`; the checkpoint's config doesn't say it.
            gradient_checkpointing: whether activations of the UNet are computed again in the backward pass.
        """
        pipe = _load(resolve_source(source), torch_type(dtype))
        text_encoder = ClipTextEncoder(_towers(pipe), bool(pipe.config.get("force_zeros_for_empty_prompt")))
        if pipe.vae.config.latents_mean is not None:  # of XL, beside the scaling factor
            scaled = [one / pipe.vae.config.scaling_factor for one in pipe.vae.config.latents_std]
            pipe.vae.register_to_config(latents_std=scaled)
        own = pipe.scheduler if sampler == "checkpoint" else None
        process = VariancePreserving(DDPMScheduler.from_config(pipe.scheduler.config), snr_gamma, own)
        if gradient_checkpointing:
            recompute_activations(pipe.unet)
        return cls.compose(pipe.vae, pipe.unet, process, text_encoder, size, distilled_from)

    @classmethod
    def compose(
        cls, autoencoder: AutoencoderKL, unet: UNet2DConditionModel, process: NoiseProcess,
        text_encoder: PromptEncoder, size: int | None = None, distilled_from: str = "",
    ) -> DiffusionGenerator:  # fmt: skip
        """Returns a frozen generator of a UNet in the latent space of an `AutoencoderKL`; other arguments: see `load`.

        `process` is the noise process that the UNet was trained with. PmgError if the UNet is none that makes images
        from text, or `size` is none that it can make.
        """
        codec = AutoencoderKLCodec(autoencoder)
        sample_size = latent_size(codec, size) or unet.config.sample_size
        adapter = UNetConditionAdapter(unet, sample_size * codec.downsampling, distilled_from)
        denoiser = UNetDenoiser(unet, sample_size, channels_last=False, adapter=adapter)
        return DiffusionGenerator(codec, denoiser, process, text_encoder).freeze()


def _load(path: str, dtype: torch.dtype) -> DiffusionPipeline:
    """The checkpoint as a pipeline of diffusers, without its safety checker, which reads other models' weights.

    Its parts are loaded one by one: ``DiffusionPipeline.from_pretrained`` imports whatever the index names, and
    passes over missing weights. PmgError if it is missing, damaged, or of another kind.
    """
    hint = (
        "; generator.source is a hub id or a folder in the layout of diffusers (model_index.json, unet, vae, "
        "text_encoder, tokenizer, scheduler)"
    )
    with loading("a generator", path, hint):
        index = DiffusionPipeline.load_config(path)
        kind = index.get("_class_name")
        if kind not in PIPELINES:
            raise PmgError(f"{path} holds a {kind}; known: {', '.join(PIPELINES)}")
        large = kind == XL
        parts = {
            "vae": load_checkpoint(AutoencoderKL, path, "vae"),
            "unet": load_checkpoint(UNet2DConditionModel, path, "unet", dtype=dtype),
            "scheduler": _load_scheduler(path, index),
            **_load_tower(path, "", CLIPTextModel, dtype),
            **(_load_tower(path, "_2", CLIPTextModelWithProjection, dtype) if large else {}),
        }
        if large:
            zeros = index.get("force_zeros_for_empty_prompt", True)
            return PIPELINES[kind](**parts, force_zeros_for_empty_prompt=zeros, add_watermarker=False)
        return PIPELINES[kind](**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def _load_tower(path: str, number: str, kind: Any, dtype: torch.dtype) -> dict[str, Any]:
    """A text tower and its tokenizer, by the names that diffusers gives them."""
    model = load_checkpoint(kind, path, f"text_encoder{number}", dtype=dtype)
    tokenizer = load_tokenizer(path, model, CLIPTokenizer, f"tokenizer{number}")
    return {f"text_encoder{number}": model, f"tokenizer{number}": tokenizer}


def _load_scheduler(path: str, index: Mapping[str, Any]) -> SchedulerMixin:
    """Returns the checkpoint's own sampler; PmgError if it is none of diffusers'."""
    name = (index.get("scheduler") or ["", ""])[1]
    kind = getattr(diffusers, str(name), None)
    if not (inspect.isclass(kind) and issubclass(kind, SchedulerMixin)):
        raise PmgError(f"{path} has the scheduler {name!r}, which is none of diffusers'")
    scheduler: Any = cast("type[SchedulerMixin]", kind).from_pretrained(path, subfolder="scheduler")
    if "beta_start" not in scheduler.config:
        raise PmgError(f"{path} has a {name}, whose noise is none of Stable Diffusion's schedules")
    return scheduler


def _towers(pipe: Any) -> list[TextTower]:
    """Returns the text models in the denoiser's order: of two, both give their last states but one."""
    length = pipe.tokenizer.model_max_length
    if not hasattr(pipe, "text_encoder_2"):
        return [TextTower(pipe.text_encoder, pipe.tokenizer, length, pooled="pooler_output")]
    pairs = ((pipe.text_encoder, pipe.tokenizer, None), (pipe.text_encoder_2, pipe.tokenizer_2, "text_embeds"))
    return [TextTower(model, tokenizer, length, layer=-2, pooled=pooled) for model, tokenizer, pooled in pairs]
