"""The autoencoder of looks as a latent codec."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderDC
from torch import Tensor

from pmg.cache import atomic_write_json
from pmg.domain import PmgError
from pmg.looks.models.large_decoder import FACTOR, LargeDecoder
from pmg.models.diffusion.interfaces import LatentCodec
from pmg.models.diffusion.latent_codec import NormalizingCodec
from pmg.models.loading.device import processor_autocast
from pmg.models.loading.weight_sources import load_frozen

AT_ONCE = 16  # pictures of 64 pixels in one pass on a processor
STATISTICS = "latent_statistics.json"  # beside the weights; AutoencoderDC's config has no place for them


class AutoencoderDCCodec(NormalizingCodec):
    """An `AutoencoderDC` with the mean and deviation `(C,)` of each channel of its latents.

    With a `decoder`, decoded pictures have `FACTOR` times the side of encoded ones.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, autoencoder: AutoencoderDC, mean: Tensor, deviation: Tensor, decoder: LargeDecoder | None = None
    ) -> None:
        super().__init__(
            autoencoder, autoencoder.config.latent_channels, autoencoder.spatial_compression_ratio,
            FACTOR if decoder else 1,
        )  # fmt: skip
        self.decoder = decoder
        self.register_buffer("mean", mean.float().view(1, -1, 1, 1))
        self.register_buffer("deviation", deviation.float().view(1, -1, 1, 1))

    @classmethod
    @torch.no_grad()
    def measure(cls, autoencoder: AutoencoderDC, pictures: Tensor) -> AutoencoderDCCodec:
        """Returns a codec normalised by the latents of `pictures` `(N, 3, H, W)` in [-1, 1]."""
        latents = torch.cat([autoencoder.encode(part).latent for part in pictures.split(AT_ONCE)]).float()
        return cls(autoencoder, latents.mean((0, 2, 3)), latents.std((0, 2, 3)))

    @classmethod
    def from_folder(cls, folder: str | Path, decoder_folder: str | None = None) -> AutoencoderDCCodec:
        """Loads an autoencoder and its latents' statistics, frozen, in float32; PmgError if either can't be read.

        `decoder_folder` is that of a `LargeDecoder` for the same latents; None: the autoencoder's own decoder.
        """
        path = Path(folder, STATISTICS)
        autoencoder = load_frozen(AutoencoderDC, folder).float()
        try:
            statistics = json.loads(path.read_text())
            mean, deviation = (torch.tensor(statistics[name]) for name in ("mean", "deviation"))
        except (OSError, ValueError, KeyError) as error:
            raise PmgError(f"{path} is missing or damaged ({error}); train the autoencoder again") from None
        decoder = load_frozen(LargeDecoder, decoder_folder).float() if decoder_folder else None
        for model in filter(None, (autoencoder, decoder)):
            model.to(memory_format=torch.channels_last)  # 1.2 times as fast on a processor
        return cls(autoencoder, mean, deviation, decoder).requires_grad_(False).eval()

    def save_statistics(self, folder: str | Path) -> None:
        """Writes the statistics beside the autoencoder's weights."""
        values = {"mean": self.mean.flatten().tolist(), "deviation": self.deviation.flatten().tolist()}
        atomic_write_json(Path(folder, STATISTICS), values)

    @torch.no_grad()
    def _encode(self, pictures: Tensor) -> Tensor:
        return torch.cat([self.autoencoder.encode(part).latent for part in pictures.split(AT_ONCE)])

    @torch.no_grad()
    def _decode(self, latents: Tensor) -> Tensor:
        if self.decoder is not None:
            return torch.cat([self.decoder(part) for part in latents.split(1)])  # more at once are no faster
        return torch.cat([self.autoencoder.decode(part).sample for part in latents.split(AT_ONCE)])

    def _statistics(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean, self.deviation


def restore_some(codec: LatentCodec, pictures: Tensor, share: float, rng: torch.Generator) -> None:
    """Replaces a share of pictures `(B, 3, H, W)` in [-1, 1] by what a codec decodes of their latents."""
    through = torch.rand(len(pictures), generator=rng) < share
    if through.any():
        with processor_autocast():
            pictures[through] = codec.decode(codec.encode(pictures[through])).float()
