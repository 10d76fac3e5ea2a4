"""Models without weights: the true classes on torch's meta device, from configs alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from pmg.domain import PmgError
from pmg.models.diffusion.generator import Generator
from pmg.models.language.grouped_attention import PACKED
from pmg.models.language.language_model import LanguageModel
from pmg.models.loading.device import torch_type
from pmg.models.loading.model_configs import GENERATORS, LANGUAGE_MODELS
from pmg.models.loading.weight_sources import resolve_source

TOWERS = ("text_encoder", "text_encoder_2")


def empty_language_model(config: PreTrainedConfig, dtype: str) -> LanguageModel:
    """A language model of a config's sizes.

    Args:
        config: of the model.
        dtype: name of its floating point type.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch_type(dtype))
    return LanguageModel(model, None, attention=PACKED)


def language_model_config(source: str) -> PreTrainedConfig:
    """The config of a language model; the hub is asked only for what `pmg.models.loading.model_configs` doesn't know.

    Args:
        source: as for `load_language_model`.

    Raises:
        PmgError: it can't be read.
    """
    if source in LANGUAGE_MODELS:
        return AutoConfig.for_model(**LANGUAGE_MODELS[source])
    path = Path(resolve_source(source))
    where = {"gguf_file": path.name} if path.suffix == ".gguf" else {}
    try:
        return AutoConfig.from_pretrained(
            path.parent if where else path if path.exists() else source, trust_remote_code=False, **where
        )
    except (OSError, ValueError) as error:
        raise PmgError(f"can't read the config of {source} ({' '.join(str(error).split())[:160]})") from error


def empty_generator(parts: Mapping[str, Any], dtype: str, size: int | None = None) -> Generator:
    """A generator of configs' sizes, without its text encoders.

    Args:
        parts: configs of ``unet`` and ``vae``.
        dtype: name of the type of the denoiser.
        size: of the images in pixels, or None.
    """
    with torch.device("meta"):
        denoiser = nn.Module.to(UNet2DConditionModel.from_config(parts["unet"]), torch_type(dtype))
        autoencoder = AutoencoderKL.from_config(parts["vae"])
    return Generator(autoencoder, denoiser, DDPMScheduler(), None, size=size).freeze()


def empty_towers(parts: Mapping[str, Any], dtype: str) -> list[PreTrainedModel]:
    """The text encoders of configs' sizes: none where they stand elsewhere."""
    configs = [AutoConfig.for_model(**parts[name]) for name in TOWERS if name in parts]
    with torch.device("meta"):
        return [AutoModel.from_config(config).to(torch_type(dtype)) for config in configs]


def generator_configs(source: str) -> dict[str, dict[str, Any]]:
    """Configs of a generator's parts: ``unet``, ``vae``, and its text encoders.

    Args:
        source: hub id or folder in the layout of diffusers.

    Raises:
        PmgError: one can't be read.
    """
    if source in GENERATORS:
        return GENERATORS[source]
    folder = resolve_source(source)
    try:
        parts = {
            "unet": UNet2DConditionModel.load_config(folder, subfolder="unet"),
            "vae": AutoencoderKL.load_config(folder, subfolder="vae"),
        }
    except (OSError, ValueError) as error:
        raise PmgError(f"can't read the config of {folder} ({' '.join(str(error).split())[:160]})") from error
    if not all("block_out_channels" in part for part in parts.values()):
        raise PmgError(f"can't read the config of {folder} (no diffusers folder with unet and vae)")
    for name in TOWERS:
        try:
            parts[name] = AutoConfig.from_pretrained(folder, subfolder=name, trust_remote_code=False).to_dict()
        except (OSError, ValueError):  # one tower, or none: the embedded generator's stands elsewhere
            continue
    return parts
