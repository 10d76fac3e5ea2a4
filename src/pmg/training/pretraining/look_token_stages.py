"""The stages of `pmg-pretrain` on looks whose images are tokens: the image tokenizer, and what predicts its tokens."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from diffusers import ModelMixin
from torch import Tensor
from transformers import JanusVQVAE, PreTrainedModel

from pmg.configuration.ranges import Count
from pmg.data.picture_groups import PictureGroups
from pmg.models.autoregressive.image_tokenizer import ImageTokenizer
from pmg.models.diffusion.latent_codec import AutoencoderDCCodec
from pmg.models.diffusion.text_encoder import TextEncoder
from pmg.models.loading.checkpoints import quiet_libraries
from pmg.models.vision.perceptual import PerceptualDistance
from pmg.preferences.captioning import PictureDescriber
from pmg.training.datamodule import Batch, RowsDataModule, ShuffledRows, seeded
from pmg.training.pretraining.look_denoiser import Drop, LookBatches
from pmg.training.pretraining.look_janus import LookJanusTraining, LookTokenBatches, read_tokens, tokenize_pool
from pmg.training.pretraining.look_pool import ITEMS, Pool
from pmg.training.pretraining.look_stages import fixed_pictures
from pmg.training.pretraining.look_tokenizer import LookTokenizerTraining
from pmg.training.pretraining.stages import VALIDATION_BATCH, Built, load_weights, save_half


class LookTokenizerStage:
    """Pixels <-> image tokens, on every picture that is not held out.

    Args:
        folder: where the model goes.
        tokenizer: untrained.
        perceptual: frozen LPIPS.
        training: makes the LightningModule of these models, with its optimizer and schedule.
        batch_size: pictures a step.
        start: folder of an earlier training, whose weights are trained further; None: from scratch.

    Raises:
        PmgError: `start` is missing, or holds a model of other sizes.
    """

    def __init__(
        self, folder: str, tokenizer: JanusVQVAE, perceptual: PerceptualDistance,
        training: Callable[[JanusVQVAE, PerceptualDistance], LookTokenizerTraining], batch_size: Count,
        start: str | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.perceptual, self.batch_size = folder, perceptual, batch_size
        if start is not None:
            load_weights(tokenizer, Path(start))
        self.module = training(tokenizer.train(), perceptual)

    def build(self, data: PictureGroups, seed: int) -> Built:
        """L1, LPIPS and the distances to the codebook, on pictures as the data set varies them."""
        train = data.picture_source("train")

        def collate(rows: Tensor, rng: torch.Generator) -> Batch:
            """Returns the pictures of `rows` `(B,)`, each as the data set varies it."""
            return {"images": train.draw(rows, rng)}

        fixed = [{"images": images} for images in fixed_pictures(data, seed).split(VALIDATION_BATCH)]
        rows = ShuffledRows(torch.arange(len(train)), self.batch_size, seed, collate)
        return self.module, RowsDataModule(rows, fixed)

    def save_and_evaluate(self, data: PictureGroups) -> dict[str, float]:
        """Saves; restores held-out pictures from their tokens, and counts the codes that they use."""
        tokenizer = self.module.finish()
        with quiet_libraries():
            save_half(tokenizer, self.folder)
        images, model = fixed_pictures(data, 0), ImageTokenizer(tokenizer)
        with torch.no_grad():
            codes = torch.cat([model.encode(part) for part in images.split(VALIDATION_BATCH)])
            restored = torch.cat([model.decode(part) for part in codes.split(VALIDATION_BATCH)])
            pairs = zip(restored.split(VALIDATION_BATCH), images.split(VALIDATION_BATCH), strict=True)
            distance = torch.cat([self.perceptual(a, b) for a, b in pairs])
        return {
            "l1": float((restored - images).abs().mean()), "lpips": float(distance.mean()),
            "used_codes": float(len(codes.unique())) / model.codes,
        }  # fmt: skip


class LookJanusStage:
    """A language model of image tokens and its style encoder, on a pool of looks.

    Args:
        folder: gets ``janus``, ``style_encoder`` and a copy of ``vae``.
        generator_folder: holds ``vae``, whose latents the pool holds and the style encoder reads.
        training: of the untrained model, with its optimizer, schedule and moving average.
        text_encoder: frozen.
        captioner: describes pictures in words.
        scene: words that target captions may end with.
        drop: chances to drop each block.
        pool: ``folder``, and the number of ``looks``.
        batch_size: drawings a step, a multiple of four.
        start: folder of an earlier training, whose weights are trained further; None: from scratch.

    Raises:
        PmgError: `start` is missing, or holds models of other sizes.
    """

    def __init__(
        self, folder: str, generator_folder: str, training: LookJanusTraining, text_encoder: TextEncoder,
        captioner: PictureDescriber, *, scene: str, drop: Drop, pool: Pool, batch_size: Count,
        start: str | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.generator_folder = Path(folder), Path(generator_folder)
        self.module, self.model = training, training.model
        self.text_encoder, self.captioner, self.scene, self.drop = text_encoder, captioner, scene, drop
        self.pool, self.batch_size = pool, batch_size
        if start is not None:
            for model, name in self._parts():
                load_weights(model, Path(start, name))

    def _parts(self) -> list[tuple[ModelMixin | PreTrainedModel, str]]:
        """Returns the trained models and the names of their folders."""
        return [(self.model.janus, "janus"), (self.model.style_encoder, "style_encoder")]

    def build(self, data: PictureGroups, seed: int) -> Built:
        """Cross-entropy of the pool's image tokens; validation on held-out cells."""
        train, held_out = (self._batches(data, split, seed) for split in ("train", "validation"))
        parts = torch.arange(len(held_out.codes)).split(VALIDATION_BATCH // ITEMS)
        self.fixed = [held_out(looks, seeded(seed, "validation", number)) for number, looks in enumerate(parts)]
        rows = torch.arange(len(train.codes))
        return self.module, RowsDataModule(ShuffledRows(rows, self.batch_size // ITEMS, seed, train), self.fixed)

    def _batches(self, data: PictureGroups, split: str, seed: int) -> LookTokenBatches:
        """Returns batches of a split; nothing is dropped from held-out ones."""
        pool = self.pool.get(data, split, seed, self.captioner, self.generator_folder)
        codec = AutoencoderDCCodec.from_folder(self.generator_folder / "vae")
        codec.autoencoder.to(memory_format=torch.channels_last)
        tokenizer = ImageTokenizer(self.model.janus.model.vqmodel)
        codes = read_tokens(self.pool.folder / split, tokenizer, partial(tokenize_pool, pool, codec, tokenizer))
        drop = self.drop if split == "train" else Drop(0.0, 0.0, 0.0, 0.0)
        return LookTokenBatches(LookBatches(pool, data, self.text_encoder, None, drop, self.scene), codes)

    def save_and_evaluate(self, data: PictureGroups) -> dict[str, float]:
        """Saves language model and style encoder; the loss on held-out drawings, in nats a token."""
        self.model.eval()
        with quiet_libraries():
            for model, name in self._parts():
                save_half(model, str(self.folder / name))
        shutil.copytree(self.generator_folder / "vae", self.folder / "vae", dirs_exist_ok=True)
        with torch.no_grad():
            losses = [self.module.held_out_losses(batch) for batch in self.fixed]
        return {"nats": float(torch.cat(losses).mean())}
