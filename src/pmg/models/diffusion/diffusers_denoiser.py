"""What denoisers around a model of diffusers have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers import ModelMixin
from pydantic import TypeAdapter
from torch import Tensor, nn

from pmg.domain import PmgError
from pmg.models.diffusion.interfaces import ConditionAdapter
from pmg.models.loading.weight_files import refuse_large
from pmg.models.loading.weight_sources import load_frozen

NAMES = "names.json"  # beside the weights: of all that they were trained to draw
LARGEST_NAMES = 2**25  # bytes
_NAMES = TypeAdapter(dict[str, list[str]])


def read_names(path: str | Path) -> dict[str, list[str]]:
    """Returns other names by title of a JSON file; PmgError if it holds anything else or is too large."""
    refuse_large(Path(path), LARGEST_NAMES)
    try:
        return _NAMES.validate_json(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise PmgError(f"names={path} can't be read ({reason}); it holds lists of names by title") from None


class DiffusersDenoiser(nn.Module):
    """Predicts the target of a noise process: a model of diffusers with the adapter of its conditions.

    Its config has ``in_channels`` and ``sample_size``, the side of latents where None is given. PmgError if the model
    is none of diffusers'.
    """

    folder: ClassVar[str]
    """Name of the model's folder in a diffusers pipeline."""
    kind: ClassVar[type[ModelMixin]]
    """Class of the model."""
    names: Mapping[str, Sequence[str]] = {}
    """Of all that it was trained to draw, other names by title; empty: they aren't known."""

    @classmethod
    def from_folder(cls, folder: str | Path) -> Self:
        """Loads a diffusers folder, frozen, in float32, with the names beside it."""
        denoiser = cls(load_frozen(cls.kind, folder))  # type: ignore[call-arg]
        if Path(folder, NAMES).is_file():
            denoiser.names = read_names(Path(folder, NAMES))
        return denoiser

    def __init__(self, model: ModelMixin, adapter: ConditionAdapter, sample_size: int | None = None) -> None:
        super().__init__()
        if not isinstance(model, ModelMixin):
            raise PmgError(
                f"{type(self).__name__} takes a model of diffusers, which saves and loads itself, and a "
                f"{type(model).__name__} is none. Derive it from ModelMixin and ConfigMixin; its config has "
                "`in_channels` and `sample_size`"
            )
        self.model, self.adapter = model, adapter
        self.sample_size: int = sample_size or model.config.sample_size

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape `(C, h, w)` of the latents."""
        return self.model.config.in_channels, self.sample_size, self.sample_size

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.model.dtype

    def forward(self, noisy: Tensor, times: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Returns the prediction `(B, C, h, w)`; subclasses call the model.

        Times `(B,)` are in the unit of the time embedding; `inputs` is of `ConditionAdapter.prepare`.
        """
        raise NotImplementedError
