"""Families of diffusion transformers: how a published checkpoint becomes a generator.

    generator = Flux1.load("black-forest-labs/FLUX.1-dev", dtype="bfloat16")

A family is a subclass of `TransformerFamily` in a file of its own, and a config whose ``_target_`` is its `load`.
Denoisers over patches of latents, and the flow of diffusers' pipelines, follow below it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from diffusers import BitsAndBytesConfig, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, ModelMixin
from torch import Tensor
from transformers import AutoConfig, BaseImageProcessor, PreTrainedModel

from pmg.configuration.ranges import Count
from pmg.domain import PmgError
from pmg.models.diffusion.diffusers_denoiser import DiffusersDenoiser
from pmg.models.diffusion.generator import DiffusionGenerator
from pmg.models.diffusion.interfaces import ConditionAdapter, PromptEncoder
from pmg.models.diffusion.latent_codec import latent_size
from pmg.models.diffusion.noise_processes import FlowMatching, NoiseProcess
from pmg.models.diffusion.sampling import combine
from pmg.models.diffusion.sequences import PATCH
from pmg.models.loading.checkpoints import load_checkpoint, load_tokenizer
from pmg.models.loading.device import keep_device
from pmg.models.loading.memory_tracker import recompute_activations
from pmg.models.loading.quantization import Quantization, loading_options
from pmg.models.loading.weight_sources import loading, resolve_source

TRAINING_STEPS = 50  # for whose shift times are sampled, where the shift depends on the number of solver steps


class TextModel(NamedTuple):
    """A text model of a checkpoint with its tokenizer, and with its image processor where it reads pictures."""

    model: Any
    tokenizer: Any
    image_processor: BaseImageProcessor | None = None


TextModels = Mapping[str, TextModel]


class TransformerFamily(ABC):
    """Loads and composes the checkpoints of one pipeline of diffusers."""

    pipeline: ClassVar[str]  # name of the pipeline's class
    transformer: ClassVar[type[ModelMixin]]  # class of the denoiser's model
    autoencoder: ClassVar[type[ModelMixin]]  # class of the autoencoder
    # classes of the text models by their folders, e.g. ``text_encoder``; the folder of the tokenizer is called alike
    text_models: ClassVar[Mapping[str, type[PreTrainedModel]]]
    codec: ClassVar[type[Any]]  # class of the `LatentCodec`, built of an autoencoder
    # class of the `DiffusersDenoiser`, built of a transformer, the side of the latents and options
    denoiser: ClassVar[type[Any]]
    further: ClassVar[tuple[str, ...]] = ()  # folders of a checkpoint beside those of all families
    # of images in pixels, as in diffusers' pipelines; None: as in the transformer's config
    default_size: ClassVar[int | None] = 1024
    mix: ClassVar[Callable[[Sequence[Tensor], Sequence[float]], Tensor]] = combine  # guides, see `DiffusionGenerator`

    @classmethod
    def compose(
        cls, autoencoder: Any, transformer: Any, scheduler: FlowMatchEulerDiscreteScheduler,
        text_encoder: PromptEncoder, size: int | None, **options: Any,
    ) -> DiffusionGenerator:  # fmt: skip
        """Returns the generator of its parts, of images of `size` pixels (None: the family's own, of most 1024).

        PmgError if the models can't make this size; `options` are the denoiser's.
        """
        codec = cls.codec(autoencoder)
        side = latent_size(codec, size or cls.default_size) or 0
        denoiser, process = cls.denoiser(transformer, side, **options), cls.noise_process(scheduler, side)
        return DiffusionGenerator(codec, denoiser, process, text_encoder, cls.mix).freeze()

    @staticmethod
    def noise_process(scheduler: FlowMatchEulerDiscreteScheduler, side: int) -> NoiseProcess:
        """Returns the noise process at a side of the latents, whose shift is on the line in the scheduler's config."""
        config, image_tokens = scheduler.config, (side // PATCH) ** 2
        slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
        shift = image_tokens * slope + config.base_shift - slope * config.base_image_seq_len
        return PipelineFlow(scheduler, lambda _: shift)

    @classmethod
    @abstractmethod
    def encode_with(cls, models: TextModels, max_length: int, width: int) -> PromptEncoder:
        """Returns the text encoder of models by folder, for a transformer of tokens of `width`; see `load`."""

    @classmethod
    def read_options(cls, index: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what a pipeline's index says beyond the names of its parts, as arguments of `denoiser`."""
        return {}

    @classmethod
    def text_width(cls, config: Mapping[str, Any]) -> int:
        """Returns the width of the text tokens that a transformer of a config reads."""
        return int(config["joint_attention_dim"])

    @classmethod
    def load(
        cls, source: str, dtype: str = "float32", size: Count | None = None, max_length: Count = 512,
        gradient_checkpointing: bool = False, *, quantization: Quantization | None = None, text_on_cpu: bool = False,
    ) -> DiffusionGenerator:  # fmt: skip
        """Loads a checkpoint, frozen; the sampler and the shift of its times are the checkpoint's own.

        PmgError if the source is missing or damaged, or of another kind, or it can't be quantized here.

        Args:
            source: hub id or folder, in the layout of diffusers.
            dtype: name of the type of denoiser and text encoders; the autoencoder stays in float32.
            size: of the images in pixels; None: 1024.
            max_length: longest text in tokens.
            gradient_checkpointing: whether activations of the transformer are computed again in the backward pass.
            quantization: ``4bit`` or ``8bit`` quantizes transformer and text encoders (bitsandbytes, on a GPU), or
                None.
            text_on_cpu: whether text encoders stay in the computer's memory, and encode there.
        """
        return cls._load(
            source, dtype, size, max_length, gradient_checkpointing, quantization=quantization, text_on_cpu=text_on_cpu
        )

    @classmethod
    def _load(
        cls, source: str, dtype: str, size: int | None, max_length: int, gradient_checkpointing: bool, *,
        quantization: Quantization | None, text_on_cpu: bool, **options: Any,
    ) -> DiffusionGenerator:  # fmt: skip
        denoising = loading_options(dtype, quantization, BitsAndBytesConfig)
        if "quantization_config" in denoising and not torch.cuda.is_available():  # which diffusers requires
            raise PmgError(f"generator.quantization={quantization} needs a GPU: set generator.quantization=null here")
        encoding = loading_options(dtype, quantization)
        if quantization and text_on_cpu:
            encoding["device_map"] = {"": "cpu"}
        path = resolve_source(source)
        hint = "; generator.source is a hub id or a folder in the layout of diffusers (model_index.json, transformer)"
        with loading("a generator", path, hint):
            index = cls._read_index(path)
            cls._check_text_models(path)
            transformer = load_checkpoint(cls.transformer, path, "transformer", **denoising)
            scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(path, subfolder="scheduler")
            models = {name: cls.load_text_model(path, name, encoding) for name in cls.text_models}
            width = cls.text_width(transformer.config)
            text_encoder = cls.encode_with(models, max_length, width)
            autoencoder = load_checkpoint(cls.autoencoder, path, "vae")
        if text_encoder.width != width:
            raise PmgError(
                f"{path}: the text encoder gives tokens {text_encoder.width} wide, and the transformer reads {width}. "
                "Use the text encoder that the transformer was trained with."
            )
        if gradient_checkpointing:
            recompute_activations(transformer)
        options = {**cls.read_options(index), **options}
        if text_on_cpu:
            keep_device(text_encoder)
        return cls.compose(autoencoder, transformer, scheduler, text_encoder, size, **options)

    @classmethod
    def _read_index(cls, path: str) -> Mapping[str, Any]:
        """Returns a pipeline's index, after a check that the pipeline is this family's and has its parts."""
        index = DiffusionPipeline.load_config(path)
        if index.get("_class_name") != cls.pipeline:
            raise PmgError(f"{path} holds a {index.get('_class_name')}. Name a {cls.pipeline}.")
        folders = ("transformer", "vae", "scheduler", *cls.text_models, *cls.further)
        missing = [name for name in folders if not index.get(name) or None in index[name]]
        missing = missing or [name for name in folders if Path(path).is_dir() and not Path(path, name).is_dir()]
        if missing:
            raise PmgError(f"{path} has no {', '.join(missing)}. Load the whole pipeline again.")
        return index

    @classmethod
    def _check_text_models(cls, path: str) -> None:
        """Raises a `PmgError` if a text model is of another architecture than the family's."""
        for name, kind in cls.text_models.items():
            config = AutoConfig.from_pretrained(path, subfolder=name, trust_remote_code=False)
            expected = kind.config_class.model_type
            shorter = expected.removesuffix("_text_model"), expected.removesuffix("_text")
            if config.model_type not in (expected, *shorter):
                raise PmgError(f"{path}/{name} is a {config.model_type}, and {cls.pipeline} needs a {expected}.")

    @classmethod
    def load_text_model(cls, path: str, name: str, weights: Mapping[str, Any]) -> TextModel:
        """Returns the text model in the folder `name` and its tokenizer; `weights` are for ``from_pretrained``."""
        model = load_checkpoint(cls.text_models[name], path, name, **weights)
        return TextModel(model, load_tokenizer(path, model, subfolder=name.replace("text_encoder", "tokenizer")))


class PatchDenoiser(DiffusersDenoiser):
    """A transformer whose image tokens are 2 x 2 latents, else PmgError; subclasses call the model."""

    folder = "transformer"

    def __init__(self, model: Any, adapter: ConditionAdapter, sample_size: int | None) -> None:
        super().__init__(model, adapter, sample_size)
        if self.sample_size % PATCH:
            raise PmgError(
                f"latents of {self.sample_size} a side can't be cut into patches of {PATCH}: set generator.size to a "
                "multiple of the patches' size in pixels"
            )


class PackedDenoiser(PatchDenoiser):
    """A `PatchDenoiser` whose model has ``in_channels`` of an image token, not of a latent."""

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape `(C, h, w)` of the latents."""
        return self.model.config.in_channels // PATCH**2, self.sample_size, self.sample_size


class PipelineEuler(FlowMatchEulerDiscreteScheduler):
    """Euler steps from time 1 to 1 / n at equal distances, shifted towards noise by `mu` of the number of steps."""

    mu: Callable[[int], float]

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None, **_: Any) -> None:
        """Sets the times of a number of steps."""
        times = np.linspace(1.0, 1 / num_inference_steps, num_inference_steps).tolist()
        super().set_timesteps(device=device, sigmas=times, mu=self.mu(num_inference_steps))

    def stretch_shift_to_terminal(self, t: np.ndarray) -> np.ndarray:
        """Stretches times, the last of several to the checkpoint's; a single one remains."""
        return super().stretch_shift_to_terminal(t) if len(t) > 1 else t


class PipelineFlow(FlowMatching):
    """A rectified flow whose times are shifted as in the family's pipeline.

    Training samples from a logit-normal distribution under the same shift, with all weights 1 (Esser et al. 2024).
    `mu` returns the parameter of the shift for a number of steps, at the generator's image size; it is used where the
    checkpoint's `scheduler` has ``use_dynamic_shifting``.
    """

    def __init__(self, scheduler: FlowMatchEulerDiscreteScheduler, mu: Callable[[int], float]) -> None:
        config = scheduler.config
        exponential = config.time_shift_type == "exponential"
        dynamic = math.exp(mu(TRAINING_STEPS)) if exponential else mu(TRAINING_STEPS)
        super().__init__(shift=dynamic if config.use_dynamic_shifting else config.shift, sampler=scheduler)
        self.mu = mu

    def new_sampler(self) -> PipelineEuler:
        """Returns the sampler in its initial state."""
        sampler = PipelineEuler.from_config(self.sampler.config)
        sampler.mu = self.mu
        return sampler
