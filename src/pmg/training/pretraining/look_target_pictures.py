"""Trains a look denoiser that may see the target's own picture: a drawing by another family of artists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from pmg.configuration.ranges import Fraction
from pmg.data.emoji.drawings import LookData
from pmg.data.picture_groups import PictureGroups
from pmg.domain import PmgError
from pmg.models.diffusion.conditioning import Block, References, drop_target, join
from pmg.models.diffusion.noise_processes import denoising_loss
from pmg.models.diffusion.target_picture import TargetPictureDenoiser
from pmg.models.loading.weight_sources import load_part
from pmg.training.datamodule import Batch
from pmg.training.pretraining.look_pool import ITEMS, LookPool
from pmg.training.pretraining.look_references import (
    LookReferencesStage,
    LookReferencesTraining,
    ReferenceBatches,
    ReferenceLookDenoiser,
)

LINE_ART = ("fluent-emoji-high-contrast", "emojione-monotone", "openmoji-black", "noto-line")
"""Artists whose drawings have no colours, which say nothing of a thing's."""
FAMILIES = ("fluent-emoji", "noto-line", "noto", "openmoji", "emojione", "twemoji")
"""Artists of one family draw alike: the first one that an artist's name begins with is theirs."""


def family(artist: str) -> str:
    """Returns an artist's family."""
    return next((name for name in FAMILIES if artist.startswith(name)), artist)


def drawings_elsewhere(data: LookData) -> list[list[int]]:
    """Returns for each drawing the training drawings of its concept by artists of other families."""
    by_concept: dict[str, list[int]] = {}
    for row in data.rows("train").tolist():
        if data.drawings.artists[row] in LINE_ART:
            continue
        by_concept.setdefault(data.drawings.items[row].concept, []).append(row)
    artists = data.drawings.artists
    return [
        [row for row in by_concept.get(item.concept, []) if family(artists[row]) != family(artist)]
        for item, artist in zip(data.drawings.items, artists, strict=True)
    ]


class TargetPictureBatches(ReferenceBatches):
    """Adds to some drawings of a batch a picture of the same concept, as another family of artists drew it.

    Attributes:
        elsewhere: of each drawing, see `drawings_elsewhere`.
        drawn: latents of all drawings as drawn on white, `(rows, C, h, w)`.
        without: share of the drawings that have none; mirrored ones never have one.
        untitled: share of the drawings with one whose title is dropped, so that the picture alone says what it is.
    """

    elsewhere: Sequence[Sequence[int]]
    drawn: Tensor
    without: float
    untitled: float

    def collate(self, looks: LookPool, rng: torch.Generator) -> Batch:
        """Returns a batch of all drawings of some looks of the pool."""
        batch = super().collate(looks, rng)
        rows = looks.rows.flatten().tolist()
        draws = torch.rand(len(rows), 2, generator=rng).tolist()
        places = [self.elsewhere[row] for row in rows]
        chosen = [some[int(draw * len(some))] if some else -1 for some, (draw, _) in zip(places, draws, strict=True)]
        plain = [not remark for remark in looks.remarks for _ in range(ITEMS)]
        seen = [
            row >= 0 and upright and drop >= self.without
            for row, upright, (_, drop) in zip(chosen, plain, draws, strict=True)
        ]
        keep_picture = torch.tensor(seen)
        titled = ~keep_picture | (torch.rand(len(rows), generator=rng) >= self.untitled)
        target = Block(batch["target"], batch["target_mask"], batch["target_pooled"])
        target = drop_target(target, self.empty, titled)
        batch |= {"target": target.tokens, "target_mask": target.mask, "target_pooled": target.pooled}
        return {**batch, "picture": self.drawn[torch.tensor(chosen)].float(), "keep_picture": keep_picture}


class TargetPictureLookDenoiser(ReferenceLookDenoiser):
    """A widened UNet with its style encoder; arguments as `ReferenceLookDenoiser`."""

    def denoise(self, noisy: Tensor, times: Tensor, references: References, *blocks: Block) -> Tensor:
        """Returns the denoiser's output `(B, C, h, w)`.

        Args:
            noisy: latents `(B, C, h, w)`.
            times: of the process, `(B,)`.
            references: the picture of each row's target.
            blocks: target, words and style tokens.
        """
        condition = replace(join(*blocks), references=references)
        return self.denoiser(noisy, self.process.model_times(times), self.denoiser.adapter.prepare(condition))


class LookTargetPicturesTraining(LookReferencesTraining):
    """Trains a `TargetPictureLookDenoiser`, see `LookReferencesTraining`."""

    def losses(self, batch: Batch) -> Tensor:
        """Returns the denoising error of each drawing, `(B,)`."""
        sample = self.model.process.add_noise(batch["latents"], batch["noise"], batch["times"])
        pictures = References(batch["picture"][:, None], batch["keep_picture"][:, None])
        output = self.model.denoise(sample.noisy, batch["times"], pictures, *self.blocks(batch))
        return denoising_loss(output.float(), sample)


class LookTargetPicturesStage(LookReferencesStage):
    """A widened denoiser and its style encoder, on pools of looks with many drawings.

    Args:
        *args: see `LookReferencesStage`.
        drawn: file with the latents of all drawings, see `experiments/drawing_latents.py`.
        without: share of the drawings without a picture of their target.
        start: folder of an earlier training of the plain width, or of this one.
        **options: see `LookReferencesStage`.
    """

    batches = TargetPictureBatches

    def __init__(
        self, *args: Any, drawn: str, without: Fraction = 0.15, untitled: Fraction = 0.0, start: str | None = None, **options: Any
    ) -> None:
        super().__init__(*args, start=None, **options)
        self.drawn, self.without, self.untitled = drawn, without, untitled
        for model, name in self._parts() if start is not None else []:
            folder = Path(str(start), name)
            found = (
                TargetPictureDenoiser.from_folder(folder).model if name == "unet" else load_part(type(model), folder)
            )
            model.load_state_dict(found.state_dict())

    def _collate(self, pool: LookPool, data: PictureGroups, split: str) -> ReferenceBatches:
        """Returns batches of latents, noise and times.

        Raises:
            PmgError: the data has no artists.
        """
        if not isinstance(data, LookData):
            raise PmgError("stage=look_target_pictures needs artists who draw the same concepts: data=looks")
        made = super()._collate(pool, data, split)
        made.elsewhere, made.drawn = drawings_elsewhere(data), load_file(self.drawn)["latents"]
        made.without, made.untitled = (self.without, self.untitled) if split == "train" else (0.0, 0.0)
        return made
