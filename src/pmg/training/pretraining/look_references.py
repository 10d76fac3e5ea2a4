"""Trains a look denoiser whose style is read from up to a dozen pictures, with or without reference attention."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from pmg.configuration.ranges import Count, CountOrZero, NotNegative
from pmg.data.emoji.drawings import LookData
from pmg.data.picture_groups import PictureGroups
from pmg.domain import PmgError
from pmg.models.diffusion.conditioning import Block, SoftBlock
from pmg.models.diffusion.look_denoiser import LookDenoiser
from pmg.models.diffusion.noise_processes import NoiseProcess
from pmg.models.diffusion.reference_attention import ReferenceReader, with_references
from pmg.models.diffusion.style_encoder import StyleEncoder
from pmg.models.diffusion.unet.denoiser import UNetDenoiser
from pmg.preferences.captioning import PictureDescriber
from pmg.training.datamodule import Batch
from pmg.training.pretraining.look_denoiser import LookBatches, LookDenoiserTraining
from pmg.training.pretraining.look_pool import ITEMS, LookPool, Pool
from pmg.training.pretraining.look_pool_stage import KEEP_ALL
from pmg.training.pretraining.look_stages import LookDenoiserStage
from pmg.training.pretraining.stages import load_weights

SMOOTHING = 0.1  # of the artists' labels


class ReferenceLookDenoiser(LookDenoiser):
    """A UNet with its style encoder and reference attention.

    Args:
        denoiser: of the shipped architecture.
        style_encoder: reads reference pictures; its patches are the reader's inputs.
        process: the noise process.
        tokens: reference tokens; 0: no reference attention.
        patches: of a picture.
        artists: that an auxiliary head tells apart by the mean style token, in training alone; 0: there is no head.
    """

    def __init__(
        self, denoiser: UNetDenoiser, style_encoder: StyleEncoder, process: NoiseProcess,
        tokens: CountOrZero = 32, patches: Count = 16, artists: CountOrZero = 0,
    ) -> None:  # fmt: skip
        reader = None
        if tokens:
            features = style_encoder.config.channels
            reader = ReferenceReader.for_unet(denoiser.model, features=features, patches=patches, tokens=tokens)
            denoiser = with_references(denoiser, reader)
        super().__init__(denoiser, style_encoder, process)
        self.references = reader
        self.artist_head = nn.Linear(style_encoder.config.width, artists) if artists else None

    def read_style(self, features: Tensor, present: Tensor, references: Tensor | None = None) -> SoftBlock:
        """Returns what is read from pictures, visible in all rows.

        Args:
            features: of the style encoder, `(B, R, N, channels)`.
            present: bool `(B, R)`: which pictures count.
            references: the same pictures in the reader's encoding; None: it is computed.
        """
        tokens = SoftBlock.of(self.style_encoder.summarise(features, present))
        if self.references is None:
            return tokens
        encoded = self.references.encode_pictures(features) if references is None else references
        return SoftBlock(tokens.tokens, tokens.mask, references=self.references.summarise(encoded, present))


class JoinedPool(Pool):
    """Pools of looks that were made before: for training all subfolders that are numbers, joined; ``held_out``.

    The arguments are those of `Pool`; a pool may hold more looks than are asked for, whose first ones are taken.
    """

    def get(
        self, data: PictureGroups, split: str, seed: int, captioner: PictureDescriber, generator_folder: Path
    ) -> LookPool:
        """Returns the pool of a split; only `split` counts.

        Raises:
            PmgError: the folder holds too few looks.
        """
        names = sorted(path.name for path in self.folder.iterdir() if path.name.isdigit())
        pools = [LookPool.load(self.folder / name) for name in (names if split == "train" else ["held_out"])]
        count, found = self.looks[split], sum(len(pool.remarks) for pool in pools)
        if found < count:
            raise PmgError(f"{self.folder} holds {found} looks of {split}: set stage.pool.looks to that, or make more")
        return LookPool(
            torch.cat([pool.latents for pool in pools])[:count], torch.cat([pool.rows for pool in pools])[:count],
            [words for pool in pools for words in pool.words][:count],
            [remark for pool in pools for remark in pool.remarks][:count],
        )  # fmt: skip


class ReferenceBatches(LookBatches):
    """Collates looks with many drawings: `ITEMS` of each are drawn, any of the others show the look.

    Attributes:
        shown: drawings of a look in a batch, those that are drawn among them; at least `ITEMS`.
        shuffled: whether a look's drawings are shuffled first; not in validation, where the held-out one comes first.
        artists: number of each picture's artist, int64 `(rows,)`; None: unknown.
    """

    shown: int = ITEMS
    shuffled: bool = True
    artists: Tensor | None = None

    def __call__(self, looks: Tensor, rng: torch.Generator) -> Batch:
        """Returns a batch of `ITEMS` drawings of each of `looks` `(N,)`, with the drawings that show the look."""
        found, size = self.pool.take(looks), self.pool.rows.shape[1]
        order = torch.rand(len(looks), size, generator=rng).argsort(1) if self.shuffled else torch.arange(size)[None]
        places = torch.arange(len(looks))[:, None], order[:, : self.shown]
        shown, rows = found.latents[places], found.rows[places]
        batch = self.collate(replace(found, latents=shown[:, :ITEMS], rows=rows[:, :ITEMS]), rng)
        known = {} if self.artists is None else {"artist": self.artists[rows[:, :ITEMS]].flatten()}
        present = some_of(len(batch["latents"]), self.shown - 1, rng)
        return {**batch, **known, "shown": shown.float(), "present": present}


def some_of(count: int, size: int, rng: torch.Generator) -> Tensor:
    """Returns which of `size` pictures each row sees, bool `(count, size)`: one to all of them, equally often."""
    order = torch.rand(count, size, generator=rng).argsort(1)
    return order < torch.randint(1, size + 1, (count, 1), generator=rng)


def other_places(count: int, shown: int) -> tuple[Tensor, Tensor]:
    """Returns look `(count, 1)` and places `(count, shown - 1)` of each drawn picture's references within its look."""
    rows = torch.arange(count)[:, None]
    return rows // ITEMS, (rows % ITEMS + torch.arange(1, shown)) % shown


class LookReferencesTraining(LookDenoiserTraining):
    """Trains a `ReferenceLookDenoiser`, see `LookDenoiserTraining`.

    Args:
        *args: see `LookDenoiserTraining`.
        artist_weight: of the loss of the artist head, which makes the style tokens tell artists apart.
        **options: see `LookDenoiserTraining`.
    """

    def __init__(self, *args: Any, artist_weight: NotNegative = 0.0, **options: Any) -> None:
        super().__init__(*args, **options)
        self.artist_weight = artist_weight

    def training_step(self, batch: Batch, number: int) -> Tensor:
        """Returns the mean loss of a batch."""
        loss = super().training_step(batch, number)
        if self.model.artist_head is None:
            return loss
        guesses = self.model.artist_head(self._style.mean())
        self.log("train/artist", (guesses.argmax(1) == batch["artist"]).float().mean(), batch_size=len(guesses))
        return loss + self.artist_weight * cross_entropy(guesses, batch["artist"], label_smoothing=SMOOTHING)

    def blocks(self, batch: Batch) -> tuple[Block, Block, SoftBlock]:
        """Returns what a batch is conditioned on; the style is read from other drawings of the look."""
        shown, model = batch["shown"], self.model
        features = model.style_encoder.encode_pictures(shown.flatten(0, 1)).unflatten(0, shown.shape[:2])
        places = other_places(len(batch["latents"]), shown.shape[1])
        encoded = None if model.references is None else model.references.encode_pictures(features)[places]
        self._style = model.read_style(features[places], batch["present"], encoded)
        soft = self._style.masked(batch["keep_style"])
        target = Block(batch["target"], batch["target_mask"], batch["target_pooled"])
        return target, Block(batch["words"], batch["words_mask"]), soft


class LookReferencesStage(LookDenoiserStage):
    """A denoiser, its style encoder and its reference reader, on pools of looks with many drawings.

    Args:
        *args: see `LookPoolStage`.
        shown: drawings of a look in a batch, see `ReferenceBatches`.
        start: folder of an earlier training; one without reference reader begins a new one.
        **options: see `LookPoolStage`.

    Attributes:
        batches: class of the batches.
    """

    batches: type[ReferenceBatches] = ReferenceBatches

    def __init__(self, *args: object, shown: Count = 12, start: str | None = None, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.shown = shown
        if start is not None:
            for model, name in self._parts():
                if name != "references" or Path(start, name).is_dir():
                    load_weights(model, Path(start, name))

    def _parts(self) -> list[tuple[ModelMixin | PreTrainedModel, str]]:
        found = self.model.references
        return super()._parts() + ([] if found is None else [(found, "references")])

    def _collate(self, pool: LookPool, data: PictureGroups, split: str) -> ReferenceBatches:
        """Returns batches of latents, noise and times.

        Raises:
            PmgError: the pool has fewer drawings of a look than a batch shows.
        """
        if pool.rows.shape[1] < self.shown:
            raise PmgError(f"stage.shown is {self.shown}: the pool has {pool.rows.shape[1]} drawings of a look")
        drop = self.drop if split == "train" else KEEP_ALL
        batches = self.batches(pool, data, self.text_encoder, self.model.process, drop, self.scene)
        batches.shown, batches.shuffled = self.shown, split == "train"
        if isinstance(data, LookData):
            names = sorted(set(data.drawings.artists))
            batches.artists = torch.tensor([names.index(artist) for artist in data.drawings.artists])
        return batches
