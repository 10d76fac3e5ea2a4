"""Pretraining of an image tokenizer: pictures to the codes of a vector-quantised autoencoder, and back."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import JanusVQVAE

from pmg.configuration.ranges import Count, CountOrZero, NotNegative
from pmg.data.picture_groups import PictureGroups
from pmg.looks.stages.autoencoder import PictureStage, fixed_pictures, measure_restored
from pmg.looks.stages.pretraining import VALIDATION_BATCH, Built, save_half
from pmg.models.loading.checkpoints import quiet_libraries
from pmg.models.vision.perceptual import PerceptualDistance
from pmg.training.datamodule import seeded
from pmg.training.optim import OptimizedModule, OptimizerPartial, SchedulerPartial
from pmg_janus.token_generator import ImageTokenizer
from pmg_janus.tokenizer import CodeUse, quantize


class LookTokenizerTraining(OptimizedModule):
    """L1 + LPIPS on pictures, and the distances between latents and codebook (van den Oord et al. 2017).

    Latents and entries of the codebook have length 1 (Yu et al. 2022). At first nothing is quantised; then the
    codebook starts from latents, and entries that stay unused are replaced by latents again. Both weights are beside
    L1's: of LPIPS, and of the distance that moves latents. Nothing is quantised for `continuous_steps`.
    """

    trained = "tokenizer"

    def __init__(
        self, tokenizer: JanusVQVAE, perceptual: PerceptualDistance, optimizer: OptimizerPartial,
        lr_scheduler: SchedulerPartial, *, use: CodeUse, perceptual_weight: NotNegative = 0.5,
        commitment_weight: NotNegative = 0.25, continuous_steps: CountOrZero = 300,
    ) -> None:  # fmt: skip
        super().__init__(optimizer, lr_scheduler)
        self.tokenizer, self.perceptual, self.use = tokenizer, perceptual, use
        self.perceptual_weight, self.commitment_weight = perceptual_weight, commitment_weight
        self.continuous_steps = continuous_steps

    def latents(self, images: Tensor) -> Tensor:
        """Returns latents of length 1, `(B, C, h, w)`, float32, of images `(B, 3, H, W)` in [-1, 1]."""
        return normalize(self.tokenizer.quant_conv(self.tokenizer.encoder(images)).float(), dim=1)

    def restore(self, latents: Tensor) -> Tensor:
        """Returns the images `(B, 3, H, W)`, float32, of latents `(B, C, h, w)`."""
        return self.tokenizer.decoder(self.tokenizer.post_quant_conv(latents)).float()

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """One step on ``images`` `(B, 3, H, W)` in [-1, 1]."""
        images = batch["images"]
        latents, step = self.latents(images), self.global_step - self.continuous_steps
        if step < 0:
            return self._compare(self.restore(latents), images, "train")
        weight = self.tokenizer.quantize.embedding.weight
        if step % self.use.every == 0:
            self.use.replace(weight, latents, seeded("codes", self.global_step))
        quantized = quantize(latents, weight)
        self.use.count(quantized.codes)
        distance = quantized.codebook + self.commitment_weight * quantized.commitment
        self.log_dict({"train/distance": quantized.codebook, "train/codes": self.use.used}, prog_bar=True)
        return self._compare(self.restore(quantized.latents), images, "train") + distance

    def _compare(self, restored: Tensor, images: Tensor, split: str) -> Tensor:
        terms = {"l1": (restored - images).abs().mean(), "lpips": self.perceptual(restored, images).float().mean()}
        self.log_dict({f"{split}/{name}": value for name, value in terms.items()}, prog_bar=True)
        return terms["l1"] + self.perceptual_weight * terms["lpips"]

    def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
        """Logs L1 and LPIPS of held-out pictures that are decoded from codes."""
        codes = quantize(self.latents(batch["images"]), self.tokenizer.quantize.embedding.weight)
        self._compare(self.restore(codes.latents), batch["images"], "val")

    @torch.no_grad()
    def finish(self) -> JanusVQVAE:
        """Gives the codebook entries of length 1; returns the tokenizer, whose own ``encode`` finds the same codes."""
        weight = self.tokenizer.quantize.embedding.weight
        weight.copy_(normalize(weight, dim=-1))
        return self.tokenizer.eval()


class LookTokenizerStage(PictureStage):
    """Pixels <-> image tokens by L1, LPIPS and the distances to the codebook, see `PictureStage`."""

    def __init__(
        self, folder: str, tokenizer: JanusVQVAE, perceptual: PerceptualDistance,
        training: Callable[[JanusVQVAE, PerceptualDistance], LookTokenizerTraining], batch_size: Count,
        start: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(folder, tokenizer, perceptual, batch_size, start)
        self.module = training(tokenizer.train(), perceptual)

    def save_and_evaluate(self, built: Built, data: PictureGroups) -> dict[str, float]:
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
