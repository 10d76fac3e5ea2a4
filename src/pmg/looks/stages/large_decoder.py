"""Pretraining of a decoder to larger pictures, from the latents of a frozen autoencoder."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pmg.configuration.ranges import Count, NotNegative, Positive
from pmg.domain import PmgError
from pmg.looks.catalogue import TABLE, decode, read_rows
from pmg.looks.drawings import LookData
from pmg.looks.edge_measures import flat_deviation, measure_edges
from pmg.looks.finishes import Finish, FinishBatch, apply_finishes
from pmg.looks.models.codec import AutoencoderDCCodec
from pmg.looks.models.large_decoder import FACTOR, LargeDecoder
from pmg.looks.stages.autoencoder import measure_restored
from pmg.looks.stages.pretraining import Built, load_weights, save_half
from pmg.models.loading.device import processor_autocast
from pmg.models.vision.perceptual import PerceptualDistance
from pmg.training.datamodule import Batch, RowsDataModule, ShuffledRows, seeded
from pmg.training.optim import OptimizedModule, OptimizerPartial, SchedulerPartial

VALIDATION_PICTURES, VALIDATION_BATCH = 128, 16


class DrawingPairs:
    """The drawings of a data set at its own size, and at `FACTOR` times the side, under the same finishes.

    `folder` is a catalogue of the larger ones, see `read_rows`; its images are decoded when they are read. PmgError if
    drawings of the data set are missing there, or have another size.
    """

    def __init__(self, data: LookData, folder: str) -> None:
        self.data, self.table = data, Path(folder, TABLE)
        images = {row["id"]: row["image"] for row in read_rows(folder, None)}
        missing = [item.id for item in data.drawings.items if item.id not in images]
        if missing:
            raise PmgError(
                f"{folder} lacks {len(missing)} drawings, e.g. {missing[0]}. Rasterise all packages of the data set"
            )
        self.images = [images[item.id] for item in data.drawings.items]
        side, wanted = self._pixels(0).shape[-1], FACTOR * data.drawings.size
        if side != wanted:
            raise PmgError(f"{folder} has drawings of {side} pixels. Rasterise them with source.size={wanted}")

    def _pixels(self, row: int) -> Tensor:
        image = decode(self.images[row], self.table, self.data.drawings.items[row].id, "RGBA")
        return torch.from_numpy(image.copy()).permute(2, 0, 1)

    def pictures(self, rows: Tensor, finishes: Sequence[Finish], mirrored: Tensor) -> tuple[Tensor, Tensor]:
        """Returns small and large pictures of `rows`, float32 in [-1, 1], `(B, 3, H, H)` and `(B, 3, 4 H, 4 H)`.

        Drawings where bool `mirrored` `(B,)` is true are mirrored, before they are finished: grain and dots stay.
        """
        batch = FinishBatch.stack(finishes)
        small, large = self.data.drawings.pixels[rows], torch.stack([self._pixels(row) for row in rows.tolist()])
        turned = [torch.where(mirrored.view(-1, 1, 1, 1), one.flip(-1), one) for one in (small, large)]
        first, second = (apply_finishes(one, batch) * 2 - 1 for one in turned)
        return first, second

    def draw(self, rows: Tensor, rng: torch.Generator, as_drawn: float = 0.05) -> tuple[Tensor, Tensor]:
        """Returns `pictures`, half of them mirrored, each under a random finish, a share `as_drawn` as drawn."""
        chance = random.Random(int(torch.randint(2**62, (), generator=rng)))
        finishes = [Finish() if chance.random() < as_drawn else self.data.space.sample(chance) for _ in rows]
        return self.pictures(rows, finishes, torch.rand(len(rows), generator=rng) < 0.5)


class LargeDecoderTraining(OptimizedModule):
    """L1 + LPIPS on large pictures; LPIPS has `perceptual_weight` beside L1, on a random `crop` of so many pixels."""

    trained = "decoder"

    def __init__(
        self, decoder: LargeDecoder, perceptual: PerceptualDistance, optimizer: OptimizerPartial,
        lr_scheduler: SchedulerPartial, perceptual_weight: NotNegative = 0.5, crop: Count = 160,
    ) -> None:  # fmt: skip
        super().__init__(optimizer, lr_scheduler)
        self.decoder, self.perceptual = decoder, perceptual
        self.perceptual_weight, self.crop = perceptual_weight, crop

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """One step on ``latents`` `(B, C, h, w)` and ``images`` `(B, 3, 32 h, 32 w)` in [-1, 1]."""
        images = batch["images"]
        top, left = (int(torch.randint(max(1, side - self.crop + 1), ())) for side in images.shape[-2:])
        return self._step(batch, "train", (..., slice(top, top + self.crop), slice(left, left + self.crop)))

    def validation_step(self, batch: Batch, _: int) -> None:
        """Logs the same terms on held-out pictures, of whole pictures."""
        self._step(batch, "val", ...)

    def _step(self, batch: Batch, split: str, part: object) -> Tensor:
        images = batch["images"]
        restored = self.decoder(batch["latents"])
        terms = {
            "l1": (restored - images).abs().mean(),
            "lpips": self.perceptual(restored[part], images[part]).float().mean(),  # type: ignore[index]
        }
        self.log_dict({f"{split}/{name}": value for name, value in terms.items()}, prog_bar=True)
        return terms["l1"] + self.perceptual_weight * terms["lpips"]


class LookLargeDecoderStage:
    """Latents of the frozen autoencoder in `codec_folder` -> pictures of `FACTOR` times its side.

    The autoencoder sees the data set's drawings, the decoder learns those in `large_folder`, see `DrawingPairs`. Half
    of each batch is decoded from latents with noise of up to `latent_noise` deviations: a denoiser's are never exact.
    `decoder` builds the model around the autoencoder; `start` is the folder of an earlier training, None: from the
    autoencoder's own decoder. The saved model has the gain `saved_gain`, above that of training for sharper edges.
    PmgError if a folder can't be read.
    """

    def __init__(
        self, folder: str, codec_folder: str, large_folder: str, decoder: Callable[..., LargeDecoder],
        perceptual: PerceptualDistance, training: Callable[[LargeDecoder, PerceptualDistance], LargeDecoderTraining],
        *, batch_size: Count, saved_gain: Positive, latent_noise: NotNegative = 0.5, start: str | None = None,
    ) -> None:  # fmt: skip
        self.saved_gain = saved_gain
        self.folder, self.large_folder, self.batch_size = folder, large_folder, batch_size
        self.latent_noise, self.perceptual = latent_noise, perceptual
        self.codec = AutoencoderDCCodec.from_folder(codec_folder)
        self.decoder = decoder(self.codec.autoencoder).to(memory_format=torch.channels_last)
        if start is not None:
            load_weights(self.decoder, Path(start))
        self.module = training(self.decoder, perceptual)

    def build(self, data: LookData, seed: int) -> Built:
        """Returns the training and batches of ``latents`` and large ``images``."""
        pairs, train = DrawingPairs(data, self.large_folder), data.rows("train")

        def collate(rows: Tensor, rng: torch.Generator) -> Batch:
            """Returns latents and large pictures of `rows` `(B,)`, half of the latents with noise."""
            small, large = pairs.draw(rows, rng)
            shape = (len(rows), 1, 1, 1)
            strength = torch.rand(shape, generator=rng) * self.latent_noise * (torch.rand(shape, generator=rng) < 0.5)
            return self._batch(small, large, strength * torch.randn(self._latent_shape(small), generator=rng))

        fixed = [self._batch(*pictures) for pictures in self._held_out(pairs)]
        return self.module, RowsDataModule(ShuffledRows(train, self.batch_size, seed, collate), fixed)

    def save_and_evaluate(self, built: Built, data: LookData) -> dict[str, float]:
        """Saves the decoder; restores held-out pictures, and measures their edges and flat areas."""
        self.decoder.eval().register_to_config(gain=self.saved_gain)
        save_half(self.decoder, self.folder)
        with torch.no_grad():
            batches = built[1].validation
            restored = torch.cat([self.decoder(batch["latents"]) for batch in batches]).clamp(-1, 1)
        images = torch.cat([batch["images"] for batch in batches])
        quality = measure_restored(self.perceptual, restored, images)
        return {**quality, **measure_edges(restored, images), "flat_deviation": flat_deviation(restored, images)}

    def _held_out(self, pairs: DrawingPairs) -> list[tuple[Tensor, Tensor]]:
        """Returns the same small and large pictures of held-out cells in each training, in batches."""
        rows, rng = pairs.data.rows("validation")[:VALIDATION_PICTURES], seeded(0, "validation pictures")
        return [pairs.draw(part, rng) for part in rows.split(VALIDATION_BATCH)]

    def _latent_shape(self, images: Tensor) -> tuple[int, ...]:
        sides = (side // self.codec.downsampling for side in images.shape[-2:])
        return len(images), self.codec.channels, *sides

    def _batch(self, small: Tensor, large: Tensor, noise: Tensor | float = 0.0) -> Batch:
        """Returns the latents of small pictures, with noise in deviations, beside the large ones."""
        with processor_autocast():
            latents = self.codec.encode(small) + noise
        return {"latents": latents * self.codec.deviation + self.codec.mean, "images": large}
