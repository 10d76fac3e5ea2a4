"""Trains a denoiser further to draw from another artist's picture of the target in place of noise alone.

Sampling that starts from a picture (SDEdit) begins at ``(1 - s) source + s e``, with noise `e`, where a denoiser that
was trained on noisy true pictures `x` expects the true one. With ``e' = e + (1 - s) / s (source - x)`` that beginning
is ``(1 - s) x + s e'``, and solvers go on along ``(1 - t) x + t e'``: the denoiser learns from `e'` as from noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from diffusers import ModelMixin
from torch import Tensor
from transformers import PreTrainedModel

from pmg.cache import Cache, hash_tensor
from pmg.configuration.ranges import Count, Fraction
from pmg.data.picture_groups import PictureGroups
from pmg.domain import PmgError
from pmg.looks.catalogue import TargetCaptions
from pmg.looks.drawings import LookData
from pmg.looks.models.codec import AutoencoderDCCodec
from pmg.looks.models.style_encoder import StyleImageEncoder
from pmg.looks.retrieved_images import KnownPictures
from pmg.looks.stages.denoiser import Drop, LookBatches, LookDenoiserStage
from pmg.looks.stages.pool import ITEMS, LookPool, Pool, look_rng
from pmg.looks.stages.training import LookTraining
from pmg.models.diffusion.text_encoder import TextEncoder
from pmg.preferences.captioning import PictureDescriber
from pmg.progress import track
from pmg.training.datamodule import Batch

LOWEST, HIGHEST = 0.5, 0.9  # shares s of noise at the beginning
AT_ONCE = 0.35  # of the rows are at the beginning, the others between it and the picture
NEAREST = 12  # known pictures that finish and artist of a source are taken from, now and then


@dataclass(frozen=True)
class Sources:
    """What sampling starts from: what the nearest of `known` pictures gives; in a share `plain` of the rows noise."""

    known: Count
    plain: Fraction


class SourceBatches(LookBatches):
    """Batches whose noise leads from a source, as the module's docstring has it, but in a share `plain` of the rows.

    `sources` are the latents of the pictures that sampling starts from, `(N, ITEMS, C, h, w)`.
    """

    sources: Tensor
    plain: float

    def _targets(self, latents: Tensor, looks: Tensor, rng: torch.Generator) -> Batch:
        batch, count = super()._targets(latents, looks, rng), len(latents)
        begin = LOWEST + (HIGHEST - LOWEST) * torch.rand(count, generator=rng)
        later = begin * torch.rand(count, generator=rng).sqrt()
        times = torch.where(torch.rand(count, generator=rng) < AT_ONCE, begin, later)
        plain = torch.rand(count, generator=rng) < self.plain
        pull = torch.where(plain, 0.0, (1 - begin) / begin).view(-1, 1, 1, 1)
        return {
            "noise": batch["noise"] + pull * (self.sources[looks].float().flatten(0, 1) - latents),
            "times": torch.where(plain, batch["times"], times),
        }


class StartDenoiserStage(LookDenoiserStage):
    """The denoiser in `generator_folder`, trained further; arguments are those of `LookPoolStage`, and `sources`."""

    batches = SourceBatches

    def __init__(
        self, folder: str, generator_folder: str, training: LookTraining, text_encoder: TextEncoder,
        captioner: PictureDescriber, *, captions: TargetCaptions, drop: Drop, pool: Pool, batch_size: Count,
        sources: Sources,
    ) -> None:  # fmt: skip
        super().__init__(
            folder, generator_folder, training, text_encoder, captioner, captions=captions, drop=drop, pool=pool,
            batch_size=batch_size, start=generator_folder,
        )  # fmt: skip
        self.sources = sources

    def _saved(self) -> list[tuple[ModelMixin | PreTrainedModel, str]]:
        return [(self.model.denoiser.model, "start_unet")]

    def _read(self, data: PictureGroups, split: str, seed: int) -> LookBatches:
        if not isinstance(data, LookData):
            raise PmgError("stage=look_start_denoiser needs drawings by several artists: data=looks")
        found = cast("SourceBatches", super()._read(data, split, seed))
        codec = AutoencoderDCCodec.from_folder(self.generator_folder / "vae")
        image_encoder = StyleImageEncoder(str(self.generator_folder / "style_encoder"), codec)
        read = {"pool": hash_tensor(found.pool.latents), "image_encoder": hash_tensor(image_encoder.encoder.queries)}
        key = Cache.key(**read, known=self.sources.known, seed=seed)
        kept = Cache(self.pool.folder / split / "sources").fetch(
            key, lambda: {"sources": find_sources(found.pool, data, image_encoder, self.sources.known, seed)}
        )
        found.sources, found.plain = kept["sources"], self.sources.plain if split == "train" else 0.0
        return found


def find_sources(pool: LookPool, data: LookData, image_encoder: StyleImageEncoder, known: int, seed: int) -> Tensor:
    """Returns the latents of a picture for each drawing to start from, float16 `(N, ITEMS, C, h, w)`.

    It is what `RetrievedImages` finds by two to four pictures of the look; in three of ten looks a near one, since
    what is found for people isn't always the nearest to their taste.
    """
    pictures, sources = KnownPictures(data, image_encoder, known, seed), []
    for look, latents in enumerate(track(pool.latents.float(), "Finding sources")):
        rng = look_rng(seed, "sources", look)
        seen = latents[rng.sample(range(ITEMS), rng.randint(2, ITEMS)), None]
        order = pictures.nearest(image_encoder.encoder(seen).flatten(1).mean(0))
        order = order[rng.randrange(1, NEAREST) :] if rng.random() < 0.3 else order
        found = torch.stack([pictures.picture(row, order) for row in pool.rows[look].tolist()])
        sources.append(image_encoder.codec.encode(found.flip(-1) if pool.remarks[look] else found).half())
    return torch.stack(sources).contiguous()
