"""The stages of `pmg-pretrain` on looks whose images are tokens: the image tokenizer, and what predicts its tokens."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from diffusers import ModelMixin
from transformers import JanusVQVAE, PreTrainedModel

from pmg.configuration.ranges import Count
from pmg.data.picture_groups import PictureGroups
from pmg.looks.stages.janus import LookTokenBatches, read_tokens, tokenize_pool
from pmg.looks.stages.pool import LookPool
from pmg.looks.stages.pool_stage import LookPoolStage
from pmg.looks.stages.stages import fixed_pictures, measure_restored, picture_batches
from pmg.looks.stages.tokenizer import LookTokenizerTraining
from pmg.models.autoregressive.image_tokenizer import ImageTokenizer
from pmg.models.diffusion.latent_codec import AutoencoderDCCodec
from pmg.models.loading.checkpoints import quiet_libraries
from pmg.models.vision.perceptual import PerceptualDistance
from pmg.training.pretraining import VALIDATION_BATCH, Built, load_weights, save_half


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
        return self.module, picture_batches(data, self.batch_size, seed)

    def save_and_evaluate(self, data: PictureGroups) -> dict[str, float]:
        """Saves; restores held-out pictures from their tokens, and counts the codes that they use."""
        tokenizer = self.module.finish()
        with quiet_libraries():
            save_half(tokenizer, self.folder)
        images, model = fixed_pictures(data, 0), ImageTokenizer(tokenizer)
        with torch.no_grad():
            codes = torch.cat([model.encode(part) for part in images.split(VALIDATION_BATCH)])
            restored = torch.cat([model.decode(part) for part in codes.split(VALIDATION_BATCH)])
        used = float(len(codes.unique())) / model.codes
        return {**measure_restored(self.perceptual, restored, images), "used_codes": used}


class LookJanusStage(LookPoolStage):
    """A language model of image tokens and its style encoder, on a pool of looks; see `LookPoolStage`."""

    quality = "nats"

    def _parts(self) -> list[tuple[ModelMixin | PreTrainedModel, str]]:
        return [(self.model.janus, "janus"), (self.model.style_encoder, "style_encoder")]

    def _collate(self, pool: LookPool, data: PictureGroups, split: str) -> LookTokenBatches:
        """Returns batches of image tokens, which are computed once and kept beside the pool."""
        codec = AutoencoderDCCodec.from_folder(self.generator_folder / "vae")
        codec.autoencoder.to(memory_format=torch.channels_last)
        tokenizer = ImageTokenizer(self.model.janus.model.vqmodel)
        codes = read_tokens(self.pool.folder / split, tokenizer, partial(tokenize_pool, pool, codec, tokenizer))
        return LookTokenBatches(self._look_batches(pool, data, split, None), codes)
