"""The stages of `pmg-pretrain` on looks whose images are tokens: the image tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from transformers import JanusVQVAE, JanusVQVAEConfig

from pmg.configuration.ranges import Count
from pmg.data.picture_groups import PictureGroups
from pmg.models.autoregressive.image_tokenizer import ImageTokenizer
from pmg.models.loading.checkpoints import quiet_libraries
from pmg.models.vision.perceptual import PerceptualDistance
from pmg.training.datamodule import Batch, RowsDataModule, ShuffledRows
from pmg.training.pretraining.look_stages import fixed_pictures
from pmg.training.pretraining.look_tokenizer import LookTokenizerTraining
from pmg.training.pretraining.stages import VALIDATION_BATCH, Built, load_weights, save_half


def build_tokenizer(
    codes: Count, width: Count, side: Count, channels: Count, multipliers: tuple[Count, ...], blocks: Count
) -> JanusVQVAE:
    """Returns an untrained image tokenizer of Janus.

    Args:
        codes: entries of the codebook.
        width: of an entry.
        side: tokens a side.
        channels: of the outermost level, a multiple of 32.
        multipliers: of the channels, one a level, from the outermost; each further level halves the side.
        blocks: residual blocks a level.
    """
    config = JanusVQVAEConfig(
        num_embeddings=codes, embed_dim=width, num_patches=side, base_channels=channels,
        channel_multiplier=list(multipliers), num_res_blocks=blocks, latent_channels=channels * multipliers[-1],
    )  # fmt: skip
    return JanusVQVAE(config)


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
