"""Trains a language model of image tokens that follows looks: by words, by style tokens of pictures, or by both."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from diffusers import ModelMixin
from safetensors.torch import load_file, save
from torch import Tensor
from transformers import PreTrainedModel

from pmg.cache import atomic_write_bytes
from pmg.configuration.ranges import Decay
from pmg.looks.models.codec import AutoencoderDCCodec
from pmg.looks.stages.denoiser import LookPoolStage
from pmg.looks.stages.pool import ITEMS, LookPool
from pmg.looks.stages.training import LookTraining
from pmg.models.diffusion.conditioning import join
from pmg.models.diffusion.interfaces import LatentCodec, PromptEncoder
from pmg.models.loading.device import processor_autocast
from pmg.progress import track
from pmg.training.datamodule import Batch
from pmg.training.optim import OptimizerPartial, SchedulerPartial
from pmg_janus.embedded import LookJanus
from pmg_janus.token_generator import ImageTokenizer

AT_ONCE = 16  # pictures in one pass of autoencoder and tokenizer
TOKENS = "tokens.safetensors"  # beside the pool: its image tokens, and the codebook of the tokenizer that made them


def read_tokens(folder: Path, tokenizer: ImageTokenizer, make: Callable[[], Tensor]) -> Tensor:
    """Returns the image tokens of a pool, those of an interrupted training where it had the same tokenizer.

    `make` computes them, int16 `(N, ITEMS, T)`.
    """
    path, codebook = folder / TOKENS, tokenizer.model.quantize.embedding.weight.detach()
    stored = load_file(path) if path.is_file() else {}
    if "codes" in stored and torch.equal(stored["codebook"], codebook):
        return stored["codes"]
    codes = make()
    atomic_write_bytes(path, save({"codes": codes, "codebook": codebook.contiguous()}))
    return codes


@torch.no_grad()
def tokenize_pool(pool: LookPool, codec: LatentCodec, tokenizer: ImageTokenizer) -> Tensor:
    """Returns the image tokens of a pool's pictures, int16 `(N, ITEMS, T)`, as its latents restore them."""
    parts = pool.latents.flatten(0, 1).split(AT_ONCE)
    with processor_autocast():
        codes = [tokenizer.encode(codec.decode(part.float())).short() for part in track(parts, "Image tokens")]
    return torch.cat(codes).unflatten(0, (-1, ITEMS))


class LookJanusTraining(LookTraining):
    """Trains a language model of image tokens and its style encoder together, see `LookTraining`."""

    loss_name = "tokens"

    def __init__(
        self, model: LookJanus, text_encoder: PromptEncoder, optimizer: OptimizerPartial,
        lr_scheduler: SchedulerPartial, ema_decay: Decay,
    ) -> None:  # fmt: skip
        super().__init__(model, optimizer, lr_scheduler, ema_decay)
        self._generator = (model.generator(text_encoder),)  # in a tuple: frozen parts stay out of checkpoints

    def losses(self, batch: Batch) -> Tensor:
        """Returns the mean cross-entropy of each drawing's image tokens, in nats, `(B,)`."""
        (generator,) = self._generator
        return generator.loss(batch["codes"], join(*self.blocks(batch)), {})


class LookJanusStage(LookPoolStage):
    """A language model of image tokens and its style encoder, on a pool of looks; see `LookPoolStage`."""

    quality = "nats"

    def _parts(self) -> list[tuple[ModelMixin | PreTrainedModel, str]]:
        return [(self.model.janus, "janus"), (self.model.style_encoder, "style_encoder")]

    def _targets(self, pool: LookPool, split: str) -> tuple[None, Tensor]:
        """Returns image tokens, which are computed once and kept beside the pool."""
        codec = AutoencoderDCCodec.from_folder(self.generator_folder / "vae")
        tokenizer = ImageTokenizer(self.model.janus.model.vqmodel)
        make = partial(tokenize_pool, pool, codec, tokenizer)
        return None, read_tokens(self.pool.folder / split, tokenizer, make)
