"""Models without weights: the real classes on torch's meta device, from configs alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    PreTrainedConfig,
    PreTrainedModel,
    T5EncoderModel,
)

from pmg.domain import PmgError
from pmg.families.stable_diffusion_3 import T5_LENGTH, compose_sd3
from pmg.models.diffusion.conditioning import TextBlock
from pmg.models.diffusion.generator import DiffusionGenerator
from pmg.models.diffusion.interfaces import PromptEncoder
from pmg.models.diffusion.noise_processes import VariancePreserving
from pmg.models.diffusion.unet.stable_diffusion import compose_generator
from pmg.models.language.compatibility import auto_class
from pmg.models.language.grouped_attention import PACKED
from pmg.models.language.language_model import LanguageModel
from pmg.models.loading.device import torch_type
from pmg.models.loading.model_configs import GENERATORS, LANGUAGE_MODELS
from pmg.models.loading.weight_sources import resolve_source

TOWERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
CLIP_LENGTH = 77  # tokens


def empty_language_model(config: PreTrainedConfig, dtype: str) -> LanguageModel:
    """Returns a language model of a config's sizes.

    Args:
        config: of the model.
        dtype: name of its floating point type.
    """
    with torch.device("meta"):
        model = auto_class(config).from_config(config, dtype=torch_type(dtype))
    return LanguageModel(model, None, attention=PACKED)


def language_model_config(source: str) -> PreTrainedConfig:
    """Returns the config of a language model; from the hub only if `pmg.models.loading.model_configs` has none.

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


@dataclass(frozen=True)
class PromptSizes:
    """Sizes of encoded texts.

    Attributes:
        tokens: of the longest text.
        width: width `D` of a token.
        pooled: width of a pooled vector.
        words: tokens of the longest keywords; None: as `tokens`.
    """

    tokens: int
    width: int
    pooled: int
    words: int | None = None


class NoTextEncoder:
    """In place of the text encoder of a generator without weights, whose texts are of given sizes."""

    max_length, width, device = 0, 0, torch.device("meta")

    def token_ids(self, text: str) -> list[int]:
        """Raises NotImplementedError."""
        raise NotImplementedError("a generator without weights has no tokenizer")

    def count_tokens(self, text: str) -> int:
        """Raises NotImplementedError."""
        raise NotImplementedError("a generator without weights has no tokenizer")

    def encode(self, texts: Sequence[str], *, padded: bool = True) -> TextBlock:
        """Raises NotImplementedError."""
        raise NotImplementedError("a generator without weights encodes no texts")


def empty_generator(parts: Mapping[str, Any], dtype: str, size: int | None = None) -> DiffusionGenerator:
    """Returns a generator of configs' sizes, without its text encoders.

    Args:
        parts: configs of ``vae``, and of ``unet`` or ``transformer``.
        dtype: name of the type of the denoiser.
        size: of the images in pixels, or None.
    """
    with torch.device("meta"):
        autoencoder = AutoencoderKL.from_config(parts["vae"])
        if "transformer" in parts:
            transformer = nn.Module.to(SD3Transformer2DModel.from_config(parts["transformer"]), torch_type(dtype))
            scheduler = FlowMatchEulerDiscreteScheduler()
            transformer = transformer.to("meta")  # positions are computed
            return compose_sd3(autoencoder, transformer, scheduler, NoTextEncoder(), size)
        unet = nn.Module.to(UNet2DConditionModel.from_config(parts["unet"]), torch_type(dtype))
    return compose_generator(autoencoder, unet, VariancePreserving(DDPMScheduler()), NoTextEncoder(), size)


def empty_towers(parts: Mapping[str, Any], dtype: str) -> list[PreTrainedModel]:
    """Returns the text encoders of configs' sizes; an empty list where the configs hold none."""
    configs = [AutoConfig.for_model(**parts[name]) for name in TOWERS if name in parts]
    with torch.device("meta"):
        models = [
            T5EncoderModel(config) if config.model_type == "t5" else AutoModel.from_config(config)
            for config in configs
        ]
    return [model.to(torch_type(dtype)) for model in models]


def prompt_sizes(parts: Mapping[str, Any], towers: Sequence[PreTrainedModel]) -> PromptSizes:
    """Returns the sizes of texts that published checkpoints encode: always of full length.

    Args:
        parts: configs of a generator.
        towers: its text encoders, see `empty_towers`.
    """
    if "transformer" in parts:
        config = parts["transformer"]
        return PromptSizes(CLIP_LENGTH + T5_LENGTH, config["joint_attention_dim"], config["pooled_projection_dim"])
    width = sum(tower.config.hidden_size for tower in towers)
    return PromptSizes(CLIP_LENGTH, width, towers[-1].config.hidden_size)


def measure_prompts(text_encoder: PromptEncoder) -> PromptSizes:
    """Returns the sizes of texts of a text encoder in memory, which pads to the longest text."""
    empty = text_encoder.encode([""])
    return PromptSizes(text_encoder.max_length, text_encoder.width, empty.pooled.shape[-1])


def generator_configs(source: str, t5: bool = True) -> dict[str, dict[str, Any]]:
    """Returns the configs of a generator's parts: ``unet`` or ``transformer``, ``vae``, and its text encoders.

    Args:
        source: hub id or folder in the layout of diffusers.
        t5: whether a generator with T5 uses it.

    Raises:
        PmgError: one can't be read.
    """
    parts = GENERATORS[source] if source in GENERATORS else _read_configs(resolve_source(source))
    return parts if t5 else {name: config for name, config in parts.items() if name != "text_encoder_3"}


def _read_configs(folder: str) -> dict[str, dict[str, Any]]:
    try:
        index = DiffusionPipeline.load_config(folder) if _is_pipeline(folder) else {}
        kind = SD3Transformer2DModel if "transformer" in index else UNet2DConditionModel
        name = "transformer" if "transformer" in index else "unet"
        parts = {
            name: kind.load_config(folder, subfolder=name),
            "vae": AutoencoderKL.load_config(folder, subfolder="vae"),
        }
    except (OSError, ValueError) as error:
        raise PmgError(f"can't read the config of {folder} ({' '.join(str(error).split())[:160]})") from error
    if "block_out_channels" not in parts["vae"] or "sample_size" not in parts[name]:
        raise PmgError(f"can't read the config of {folder} (no diffusers folder with {name} and vae)")
    for tower in TOWERS:
        try:
            parts[tower] = AutoConfig.from_pretrained(folder, subfolder=tower, trust_remote_code=False).to_dict()
        except (OSError, ValueError):  # it has fewer: the embedded generator's text encoder is another package's
            continue
    return parts


def _is_pipeline(source: str) -> bool:
    """Returns whether a source has an index: a hub id, or a folder that is a whole pipeline."""
    return not Path(source).is_dir() or Path(source, "model_index.json").is_file()
