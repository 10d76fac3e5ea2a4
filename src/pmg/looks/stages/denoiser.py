"""Trains a denoiser that follows looks: by words, by style tokens of reference pictures, or by both."""

from __future__ import annotations

import random
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import ModelMixin
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from pmg.cache import atomic_write_json
from pmg.configuration.ranges import Count, Fraction
from pmg.data.picture_groups import PictureGroups
from pmg.domain import PmgError
from pmg.looks.catalogue import TargetCaptions
from pmg.looks.models.style_encoder import StyleEncoder
from pmg.looks.stages.pool import ITEMS, LookPool, Pool, say
from pmg.looks.stages.pretraining import VALIDATION_BATCH, Built, count_groups, load_weights, save_half
from pmg.looks.stages.training import LookTraining, reference_rows
from pmg.models.diffusion.conditioning import Block, TextBlock, drop_target, join
from pmg.models.diffusion.diffusers_denoiser import NAMES, DiffusersDenoiser
from pmg.models.diffusion.noise_processes import NoiseProcess, denoising_loss
from pmg.models.diffusion.text_encoder import TextEncoder
from pmg.models.loading.checkpoints import quiet_libraries
from pmg.models.loading.device import processor_autocast
from pmg.preferences.captioning import PictureDescriber
from pmg.training.datamodule import Batch, RowsDataModule, ShuffledRows, seeded

REFERENCES = ITEMS - 1


@dataclass(frozen=True)
class Drop:
    """Chances to drop each block of the condition, independently."""

    target: Fraction = 0.1  # what is drawn; the empty text takes its place
    words: Fraction = 0.4  # the captioner's words
    style: Fraction = 0.3  # the style tokens
    word: Fraction = 0.3  # one word of those that stay


class LookBatches:
    """Collates looks of a pool into batches: conditions, with noise for a `process` or with image tokens.

    `write` says what a picture shows. `codes` are the image tokens of the pool's pictures, `(N, ITEMS, T)`; None:
    batches have none.
    """

    def __init__(
        self, pool: LookPool, data: PictureGroups, text_encoder: TextEncoder, process: NoiseProcess | None, drop: Drop,
        write: TargetCaptions, *, codes: Tensor | None = None,
    ) -> None:  # fmt: skip
        self.pool, self.text_encoder, self.process, self.drop, self.codes = pool, text_encoder, process, drop, codes
        captions = [write(item) for item in data.picture_items]
        self.remarks, self.pictures = sorted(set(pool.remarks)), len(captions)
        suffixes = [f", {remark}" if remark else "" for remark in self.remarks]
        captions = [[text + suffix for text in some] for suffix in suffixes for some in captions]
        texts = list(dict.fromkeys(text for some in captions for text in some))
        place = {text: row for row, text in enumerate(texts)}
        self.titles = text_encoder.encode(texts)
        self.captions = [[place[text] for text in some] for some in captions]
        self.empty = text_encoder.encode([""])

    def __len__(self) -> int:
        return len(self.pool.latents)

    def __call__(self, looks: Tensor, rng: torch.Generator) -> Batch:
        """Returns a batch of all drawings of `looks` `(N,)`: `B = N * ITEMS` rows."""
        latents = self.pool.latents[looks].float().flatten(0, 1)
        count = len(latents)
        chance = random.Random(int(torch.randint(2**62, (), generator=rng)))
        titles = [chance.choice(some) for look in looks.tolist() for some in self._captions(look)]
        keep = torch.rand(count, generator=rng) >= self.drop.target
        target = trim(drop_target(self.titles[torch.tensor(titles)], self.empty, keep))
        said = [say(chance.choice(self.pool.words[look]), chance, 1 - self.drop.word) for look in looks.tolist()]
        with processor_autocast():
            encoded = self.text_encoder.encode(said)  # of each look, some of what was said of one of its drawings
        words = Block(encoded.tokens.float(), encoded.mask).repeat(ITEMS)
        words = words.masked(torch.rand(count, generator=rng) >= self.drop.words)
        return {
            "latents": latents,
            **self._targets(latents, looks, rng),
            "target": target.tokens,
            "target_mask": target.mask,
            "target_pooled": target.pooled,
            "words": words.tokens,
            "words_mask": words.mask,
            "present": some_references(count, rng),
            "keep_style": torch.rand(count, generator=rng) >= self.drop.style,
            "alone": torch.rand(count, generator=rng) < 0.5,
        }

    def _targets(self, latents: Tensor, looks: Tensor, rng: torch.Generator) -> Batch:
        """Returns image tokens `(B, T)`, or noise like `latents` and times `(B,)`."""
        if self.codes is not None:
            return {"codes": self.codes[looks].flatten(0, 1).long()}
        if self.process is None:
            return {}
        noise = torch.randn(latents.shape, generator=rng)
        return {"noise": noise, "times": self.process.sample_times(len(latents), rng)}

    def _captions(self, look: int) -> list[list[int]]:
        """Returns for each drawing of a look the places of its captions."""
        first = self.remarks.index(self.pool.remarks[look]) * self.pictures
        return [self.captions[first + row] for row in self.pool.rows[look].tolist()]


def trim(block: TextBlock) -> TextBlock:
    """Returns a block without columns behind the last token that counts in any row."""
    used = block.mask.any(0).nonzero()
    length = int(used.max()) + 1 if len(used) else 1
    return replace(block, tokens=block.tokens[:, :length], mask=block.mask[:, :length])


def some_references(count: int, rng: torch.Generator) -> Tensor:
    """Returns which references each row sees, bool `(count, REFERENCES)`: one to all of them, equally often."""
    order = torch.rand(count, REFERENCES, generator=rng).argsort(1)
    return order < torch.randint(1, REFERENCES + 1, (count, 1), generator=rng)


class LookDenoiserTraining(LookTraining):
    """Trains a `LookDenoiser`: the denoising error, see `LookTraining`."""

    loss_name = "denoise"

    def losses(self, batch: Batch) -> Tensor:
        """Returns the denoising error of each drawing, `(B,)`."""
        sample = self.model.process.add_noise(batch["latents"], batch["noise"], batch["times"])
        output = self.model(sample.noisy, batch["times"], *self.blocks(batch))
        return denoising_loss(output.float(), sample)

    def training_step(self, batch: Batch, number: int) -> Tensor:
        """Returns the mean loss of a batch."""
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernel's backward takes three times as long for so few tokens
            return super().training_step(batch, number)


class FixedStyleTraining(LookDenoiserTraining):
    """Trains the denoiser alone: the style encoder stays as it is, and so do all tokens that were learned for it."""

    def setup(self, stage: str) -> None:
        """Sets which parameters are trained; the denoiser may have been loaded to be used."""
        self.model.denoiser.model.requires_grad_(True)
        self.model.style_encoder.requires_grad_(False)

    def style_tokens(self, features: Tensor, batch: Batch) -> Tensor:
        """Returns style tokens `(B, n, D)`: of half of the rows the mean of pictures that are read alone."""
        alone = self.model.style_encoder.summarise(features[:, None], torch.ones(len(features), 1, dtype=torch.bool))
        share = batch["present"].float() / batch["present"].sum(1, keepdim=True)
        mean = (alone[reference_rows(len(alone))] * share[..., None, None]).sum(1)
        return torch.where(batch["alone"][:, None, None], mean, super().style_tokens(features, batch))


KEEP_ALL = Drop(0.0, 0.0, 0.0, 0.0)


class LookPoolStage(ABC):
    """A generator and its style encoder, on a pool of looks.

    `folder` gets the generator, ``style_encoder`` and a copy of the ``vae`` in `generator_folder`, whose latents the
    pool holds and the style encoder reads. `training` is that of the untrained model, with its optimizer, schedule and
    moving average. `captions` name what a picture shows. A step has `batch_size` drawings. `start` is the
    folder of an earlier training, whose weights are trained further; None: from scratch. PmgError if it is missing, or
    holds models of other sizes, or `batch_size` is no multiple of four.
    """

    quality: str  # name of the loss on held-out drawings in the model's card
    batches: type[LookBatches] = LookBatches

    def __init__(
        self, folder: str, generator_folder: str, training: LookTraining, text_encoder: TextEncoder,
        captioner: PictureDescriber, *, captions: TargetCaptions, drop: Drop, pool: Pool, batch_size: Count,
        start: str | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.generator_folder = Path(folder), Path(generator_folder)
        self.module, self.model = training, training.model
        self.text_encoder, self.captioner, self.captions, self.drop = text_encoder, captioner, captions, drop
        self.pool, self.looks_a_step = pool, count_groups(batch_size, ITEMS)
        if start is not None:
            for model, name in self._parts():
                load_weights(model, Path(start, name))

    @abstractmethod
    def _parts(self) -> list[tuple[ModelMixin | PreTrainedModel, str]]:
        """Returns the trained models and the names of their folders."""

    def _saved(self) -> list[tuple[ModelMixin | PreTrainedModel, str]]:
        """Returns what is saved, with the names of its folders, beside a copy of the autoencoder."""
        shutil.copytree(self.generator_folder / "vae", self.folder / "vae", dirs_exist_ok=True)
        return self._parts()

    @abstractmethod
    def _targets(self, pool: LookPool, split: str) -> tuple[NoiseProcess | None, Tensor | None]:
        """Returns the noise process, or the image tokens `(N, ITEMS, T)`, of the pool of a split."""

    def build(self, data: PictureGroups, seed: int) -> Built:
        """Returns the training and its batches from the pool; validation is on held-out cells."""
        held_out = self._read(data, "validation", seed)
        train = self._read(data, "train", seed)
        parts = torch.arange(len(held_out)).split(VALIDATION_BATCH // ITEMS)
        fixed = [held_out(looks, seeded(seed, "validation", number)) for number, looks in enumerate(parts)]
        rows = ShuffledRows(torch.arange(len(train)), self.looks_a_step, seed, train)
        return self.module, RowsDataModule(rows, fixed)

    def _read(self, data: PictureGroups, split: str, seed: int) -> LookBatches:
        """Returns batches of the pool of a split; nothing is dropped from held-out ones."""
        pool = self.pool.get(data, split, seed, self.captioner, self.generator_folder)
        process, codes = self._targets(pool, split)
        drop = self.drop if split == "train" else KEEP_ALL
        return self.batches(pool, data, self.text_encoder, process, drop, self.captions, codes=codes)

    def save_and_evaluate(self, built: Built, data: PictureGroups) -> dict[str, float]:
        """Saves generator, with the names of what it was trained to draw, and style encoder.

        Returns the loss on held-out drawings.
        """
        self.model.eval()
        names = {item.title: self.captions.names.get(item.title, []) for item in data.picture_items}
        with quiet_libraries():
            for model, name in self._saved():
                save_half(model, str(self.folder / name))
                if name == self._parts()[0][1]:  # the generator's
                    atomic_write_json(self.folder / name / NAMES, names)
        with torch.no_grad():
            losses = [self.module.held_out_losses(batch) for batch in built[1].validation]
        return {self.quality: float(torch.cat(losses).mean())}


class LookDenoiserStage(LookPoolStage):
    """A denoiser and its style encoder, on a pool of looks; see `LookPoolStage`."""

    quality = "denoise"

    def _parts(self) -> list[tuple[ModelMixin | PreTrainedModel, str]]:
        return [(self.model.denoiser.model, self.model.denoiser.folder), (self.model.style_encoder, "style_encoder")]

    def _targets(self, pool: LookPool, split: str) -> tuple[NoiseProcess, None]:
        """Returns the noise process; PmgError if the denoiser takes other latents."""
        shape, wanted = tuple(pool.latents.shape[2:]), tuple(self.model.denoiser.latent_shape)
        if shape != wanted:
            raise PmgError(
                f"the pictures' latents are {shape}, the denoiser takes {wanted}: prepare pictures of another size "
                "(pmg-prepare source.pictures.size=64 for 8 x 8), or change "
                "stage.training.model.denoiser.model.sample_size"
            )
        return self.model.process, None


class LookDenoiser(nn.Module):
    """A denoiser of target, words and style in one sequence, with its style encoder and noise process."""

    def __init__(self, denoiser: DiffusersDenoiser, style_encoder: StyleEncoder, process: NoiseProcess) -> None:
        super().__init__()
        self.denoiser, self.style_encoder, self.process = denoiser, style_encoder, process

    def forward(self, noisy: Tensor, times: Tensor, target: Block, *preference: Block) -> Tensor:
        """Returns the denoiser's output `(B, C, h, w)` of noisy latents, at times `(B,)` of the process.

        `preference` are words and style tokens.
        """
        inputs = self.denoiser.adapter.prepare(join(target, *preference))
        return self.denoiser(noisy, self.process.model_times(times), inputs)
