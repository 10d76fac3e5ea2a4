"""What denoisers around transformers of packed latents have in common."""

from __future__ import annotations

from typing import Any

from pmg.domain import PmgError
from pmg.models.diffusion.diffusers_denoiser import DiffusersDenoiser
from pmg.models.diffusion.interfaces import ConditionAdapter, LatentCodec
from pmg.models.diffusion.latent_codec import latent_size
from pmg.models.diffusion.sequences import PATCH

DEFAULT_SIZE = 1024  # pixels, as in diffusers' pipelines: configs of these transformers have no size


class PackedDenoiser(DiffusersDenoiser):
    """A transformer whose image tokens are 2 x 2 latents; subclasses call the model.

    Args:
        model: its ``in_channels`` are those of an image token.
        adapter: translates conditions.
        sample_size: side of the latents.

    Raises:
        PmgError: the latents can't be cut into patches.
    """

    folder = "transformer"

    def __init__(self, model: Any, adapter: ConditionAdapter, sample_size: int) -> None:
        super().__init__(model, adapter, sample_size)
        check_patches(sample_size)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape `(C, h, w)` of the latents."""
        return self.model.config.in_channels // PATCH**2, self.sample_size, self.sample_size


def check_patches(sample_size: int) -> None:
    """Checks that latents of a side can be cut into patches.

    Raises:
        PmgError: they can't.
    """
    if sample_size % PATCH:
        raise PmgError(
            f"latents of {sample_size} a side can't be cut into patches of {PATCH}: set generator.size to a multiple "
            "of the patches' size in pixels"
        )


def latent_side(codec: LatentCodec, size: int | None) -> int:
    """Returns the side of the latents of images of a size in pixels, of `DEFAULT_SIZE` for None.

    Raises:
        PmgError: the size isn't a multiple of the codec's downsampling.
    """
    return latent_size(codec, size or DEFAULT_SIZE) or 0
