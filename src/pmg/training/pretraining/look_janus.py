"""Trains a language model of image tokens that follows looks: by words, by style tokens of pictures, or by both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytorch_lightning as pl
import torch
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor

from pmg.configuration.ranges import Decay
from pmg.models.autocast import processor_autocast
from pmg.models.autoregressive.image_tokenizer import ImageTokenizer
from pmg.models.autoregressive.look_janus import LookJanus
from pmg.models.diffusion.conditioning import Block, SoftBlock, join
from pmg.models.diffusion.interfaces import LatentCodec, PromptEncoder
from pmg.training.datamodule import Batch
from pmg.training.ema import AveragedWeights
from pmg.training.optim import OptimizerPartial, SchedulerPartial, configure_optimizers
from pmg.training.pretraining.look_denoiser import LookBatches, reference_rows
from pmg.training.pretraining.look_pool import ITEMS, LookPool

AT_ONCE = 16  # pictures in one pass of autoencoder and tokenizer


TOKENS = "tokens.safetensors"  # beside the pool: its image tokens, and the codebook of the tokenizer that made them


def read_tokens(folder: Path, tokenizer: ImageTokenizer, make: Callable[[], Tensor]) -> Tensor:
    """Returns the image tokens of a pool, those of an interrupted training where it had the same tokenizer.

    Args:
        folder: of the pool.
        tokenizer: of pictures.
        make: computes the tokens, int16 `(N, ITEMS, T)`.
    """
    path, codebook = folder / TOKENS, tokenizer.model.quantize.embedding.weight.detach()
    stored = load_file(path) if path.is_file() else {}
    if "codes" in stored and torch.equal(stored["codebook"], codebook):
        return stored["codes"]
    codes = make()
    part = path.with_suffix(".part")
    save_file({"codes": codes, "codebook": codebook.contiguous()}, part)
    part.replace(path)
    return codes


@torch.no_grad()
def tokenize_pool(pool: LookPool, codec: LatentCodec, tokenizer: ImageTokenizer) -> Tensor:
    """Returns the image tokens of a pool's pictures, int16 `(N, ITEMS, T)`, as its latents restore them.

    Args:
        pool: of N looks.
        codec: whose latents they are.
        tokenizer: of pictures.
    """
    parts = pool.latents.flatten(0, 1).split(AT_ONCE)
    with processor_autocast():
        codes = [
            tokenizer.encode(codec.decode(part.float())).short() for part in track(parts, description="Image tokens")
        ]
    return torch.cat(codes).unflatten(0, (-1, ITEMS))


class LookTokenBatches:
    """Collates looks of a pool into batches of image tokens.

    Args:
        batches: give the blocks of the condition.
        codes: image tokens of the pool's pictures, `(N, ITEMS, T)`.
    """

    def __init__(self, batches: LookBatches, codes: Tensor) -> None:
        self.batches, self.codes = batches, codes

    def __call__(self, looks: Tensor, rng: torch.Generator) -> Batch:
        """Returns a batch of all drawings of `looks` `(N,)`: `B = N * ITEMS` rows."""
        return {**self.batches(looks, rng), "codes": self.codes[looks].flatten(0, 1).long()}


class LookJanusTraining(pl.LightningModule):
    """Trains language model and style encoder together; their moving average is the model.

    Args:
        model: both.
        text_encoder: frozen, of the prompts' width.
        optimizer: makes the optimizer.
        lr_scheduler: makes the learning rate's schedule.
        ema_decay: decay of the moving average.
    """

    def __init__(
        self, model: LookJanus, text_encoder: PromptEncoder, optimizer: OptimizerPartial,
        lr_scheduler: SchedulerPartial, ema_decay: Decay,
    ) -> None:  # fmt: skip
        super().__init__()
        self.model, self.optimizer, self.lr_scheduler = model, optimizer, lr_scheduler
        self._generator = (model.generator(text_encoder),)  # in a tuple: frozen parts stay out of checkpoints
        self.average = AveragedWeights(model, ema_decay, power=0.75)

    def losses(self, batch: Batch) -> Tensor:
        """Returns the mean cross-entropy of each drawing's image tokens, in nats, `(B,)`."""
        latents = batch["latents"]
        features = self.model.style_encoder.encode_pictures(latents)
        tokens = self.model.style_encoder.summarise(features[reference_rows(len(latents))], batch["present"])
        style = SoftBlock(tokens, batch["keep_style"][:, None].expand(tokens.shape[:2]))
        target = Block(batch["target"], batch["target_mask"], batch["target_pooled"])
        words = Block(batch["words"], batch["words_mask"])
        (generator,) = self._generator
        return generator.loss(batch["codes"], join(target, words, style), {})

    def held_out_losses(self, batch: Batch) -> Tensor:
        """Returns the losses of the first drawing of each look, the held-out one, `(B / ITEMS,)`."""
        return self.losses(batch)[::ITEMS]

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """One step on a batch of `LookTokenBatches`."""
        loss = self.losses(batch).mean()
        self.log("train/tokens", loss, prog_bar=True, batch_size=len(batch["codes"]))
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """The loss on held-out cells."""
        losses = self.held_out_losses(batch)
        self.log("val/tokens", losses.mean(), prog_bar=True, batch_size=len(losses))

    def configure_callbacks(self) -> list[pl.Callback]:
        """Returns the moving average."""
        return [self.average]

    def configure_optimizers(self) -> dict:
        """Returns optimizer and schedule of the model's parameters."""
        return configure_optimizers(self, self.model, self.optimizer, self.lr_scheduler)
