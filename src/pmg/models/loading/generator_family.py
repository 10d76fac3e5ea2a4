"""Families of published generators: one class loads their checkpoints, and describes them without weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn
from transformers import PreTrainedModel

from pmg.configuration.instantiate import import_target
from pmg.models.diffusion.interfaces import Generator
from pmg.models.meta_models import PromptSizes

WORDS = 64  # tokens of unpadded keywords, for forecasts
Configs = Mapping[str, Mapping[str, Any]]


class MeasurableGenerator(Generator, Protocol):
    """A generator whose training can be forecast without weights: it computes on torch's device ``meta``."""

    @property
    def images_at_once(self) -> int:
        """Images in one pass of `encode_pass`."""
        ...

    def encode_pass(self, images: Tensor) -> Tensor:
        """Returns latents `(B, *latent_shape)` of images `(B, 3, size, size)`, both on the device of the weights."""
        ...

    def frozen_models(self) -> Mapping[str, nn.Module]:
        """Returns the models beside the text encoder by name, first the one that runs once a step."""
        ...


class GeneratorFamily(ABC):
    """Loads the checkpoints of one family by a class method `load`, which a config's ``_target_`` names.

    Attributes:
        published: configs of published checkpoints by hub id, for forecasts without a download.
    """

    published: ClassVar[Mapping[str, Configs]] = {}

    @classmethod
    @abstractmethod
    def prompt_sizes(cls, configs: Configs, max_length: int) -> PromptSizes:
        """Returns the sizes of the longest encoded texts, from the configs of a checkpoint."""

    @classmethod
    @abstractmethod
    def read_configs(cls, source: str) -> Configs:
        """Returns the configs of a checkpoint's parts, from the hub only if `published` has none.

        Raises:
            PmgError: one can't be read, or the checkpoint is of another family.
        """

    @classmethod
    @abstractmethod
    def empty(
        cls, configs: Configs, dtype: str, size: int | None = None, gradient_checkpointing: bool = False
    ) -> MeasurableGenerator:  # fmt: skip
        """Returns a generator of configs' sizes on torch's meta device, without its text encoders.

        Args:
            configs: of `read_configs`.
            dtype: name of the type of the denoiser.
            size: of the images in pixels, or None.
            gradient_checkpointing: whether activations are computed again in the backward pass.
        """

    @classmethod
    @abstractmethod
    def empty_text_models(cls, configs: Configs, dtype: str) -> list[PreTrainedModel]:
        """Returns text models of configs' sizes on torch's meta device, those that are models of their own."""


def find_family(target: str) -> type[GeneratorFamily] | None:
    """Returns the family whose `load` a generator's ``_target_`` names; None for other generators."""
    owner = getattr(import_target("generator._target_", target), "__self__", None)
    return owner if isinstance(owner, type) and issubclass(owner, GeneratorFamily) else None
