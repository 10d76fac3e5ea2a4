"""Trains a denoiser that follows looks: by words, by style tokens of reference pictures, or by both."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from pmg.configuration.ranges import Fraction
from pmg.data.emoji.captions import target_captions
from pmg.data.picture_groups import PictureGroups
from pmg.models.autocast import processor_autocast
from pmg.models.diffusion.conditioning import Block, drop_target
from pmg.models.diffusion.noise_processes import NoiseProcess, denoising_loss
from pmg.models.diffusion.text_encoder import TextEncoder
from pmg.training.datamodule import Batch
from pmg.training.pretraining.look_pool import ITEMS, LookPool, say
from pmg.training.pretraining.look_training import LookTraining

REFERENCES = ITEMS - 1


@dataclass(frozen=True)
class Drop:
    """Chances to drop each block of the condition, independently.

    Attributes:
        target: what is drawn; the empty text takes its place.
        words: the captioner's words.
        style: the style tokens.
        word: one word of those that stay.
    """

    target: Fraction = 0.1
    words: Fraction = 0.4
    style: Fraction = 0.3
    word: Fraction = 0.3


class LookBatches:
    """Collates looks of a pool into denoising batches.

    Args:
        pool: the looks.
        data: their pictures' titles.
        text_encoder: encodes titles and words.
        process: gives the times; None: there is no noise.
        drop: chances to drop each block.
        scene: words that target captions may end with.
    """

    def __init__(
        self,
        pool: LookPool,
        data: PictureGroups,
        text_encoder: TextEncoder,
        process: NoiseProcess | None,
        drop: Drop,
        scene: str,
    ) -> None:
        self.pool, self.text_encoder, self.process, self.drop = pool, text_encoder, process, drop
        captions = [target_captions(item, scene) for item in data.picture_items]
        self.remarks, self.pictures = sorted(set(pool.remarks)), len(captions)
        captions = [[_remark(text, remark) for text in some] for remark in self.remarks for some in captions]
        texts = list(dict.fromkeys(text for some in captions for text in some))
        place = {text: row for row, text in enumerate(texts)}
        self.titles = text_encoder.encode(texts)
        self.captions = [[place[text] for text in some] for some in captions]
        self.empty = text_encoder.encode([""])

    def __len__(self) -> int:
        """Returns the number of looks."""
        return len(self.pool.latents)

    def __call__(self, looks: Tensor, rng: torch.Generator) -> Batch:
        """Returns a batch of all drawings of `looks` `(N,)`: `B = N * ITEMS` rows."""
        return self.collate(self.pool.take(looks), rng)

    def collate(self, looks: LookPool, rng: torch.Generator) -> Batch:
        """Returns a batch of all drawings of some looks of the pool."""
        latents = looks.latents.float().flatten(0, 1)
        count = len(latents)
        chance = random.Random(int(torch.randint(2**62, (), generator=rng)))
        titles = [chance.choice(some) for some in self._captions(looks)]
        keep = torch.rand(count, generator=rng) >= self.drop.target
        target = drop_target(self.titles[torch.tensor(titles)], self.empty, keep).trimmed()
        words = self._encode(self._say(looks, chance)).repeat(ITEMS)
        words = words.masked(torch.rand(count, generator=rng) >= self.drop.words)
        return {
            "latents": latents,
            **self._noise(latents, rng),
            "target": target.tokens,
            "target_mask": target.mask,
            "target_pooled": target.pooled,
            "words": words.tokens,
            "words_mask": words.mask,
            "present": some_references(count, rng),
            "keep_style": torch.rand(count, generator=rng) >= self.drop.style,
        }

    def _noise(self, latents: Tensor, rng: torch.Generator) -> Batch:
        """Returns noise like `latents` and times `(B,)`, where there is a process."""
        if self.process is None:
            return {}
        noise = torch.randn(latents.shape, generator=rng)
        return {"noise": noise, "times": self.process.sample_times(len(latents), rng)}

    def _captions(self, looks: LookPool) -> list[list[int]]:
        """Returns for each drawing of looks the places of its captions."""
        firsts = [self.remarks.index(remark) * self.pictures for remark in looks.remarks]
        pairs = zip(firsts, looks.rows.tolist(), strict=True)
        return [self.captions[first + row] for first, rows in pairs for row in rows]

    def _say(self, looks: LookPool, chance: random.Random) -> list[str]:
        """Returns a text for each look: some of what the captioner said of one of its drawings."""
        return [say(chance.choice(words), chance, 1 - self.drop.word) for words in looks.words]

    def _encode(self, texts: list[str]) -> Block:
        """Returns the encoded texts, computed in bfloat16 where that is fast."""
        with processor_autocast():
            block = self.text_encoder.encode(texts)
        return Block(block.tokens.float(), block.mask, None)


def _remark(text: str, remark: str) -> str:
    return f"{text}, {remark}" if remark else text


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
