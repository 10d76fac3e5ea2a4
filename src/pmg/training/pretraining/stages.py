"""The stages of `pmg-pretrain`: what each trains, on what, and how good it came out.

Every stage has the same shape: `build` gives a LightningModule and its batches, `finish` saves the model as
fp16 safetensors in the library's own folder layout and measures it on held-out drawings.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

import pytorch_lightning as pl
import torch
from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from pmg.configuration.ranges import Count, Fraction
from pmg.data.dataset import StyledDataset
from pmg.domain import PmgError
from pmg.models.diffusion.generator import DiffusionGenerator
from pmg.models.diffusion.latent_codec import reconstruct
from pmg.models.diffusion.noise_processes import VariancePreserving
from pmg.models.diffusion.text_encoder import TextEncoder
from pmg.models.diffusion.unet.stable_diffusion import compose_generator
from pmg.models.loading.weight_sources import load_frozen, load_part
from pmg.models.vision.judge import Judge, JudgeConfig
from pmg.models.vision.perceptual import PerceptualDistance
from pmg.models.vision.pixels import to_uint8
from pmg.models.vision.scorer import Scorer, ScorerConfig
from pmg.training.datamodule import Batch, RowsDataModule, ShuffledRows
from pmg.training.latents import encode_item_images
from pmg.training.pretraining.augmentation import DrawingBatches
from pmg.training.pretraining.autoencoder import AutoencoderTraining
from pmg.training.pretraining.denoiser import DenoiserTraining, LatentBatches, fixed_batches
from pmg.training.pretraining.encoded_captions import CaptionBank
from pmg.training.pretraining.judge import JudgeTraining
from pmg.training.pretraining.scorer import ScorerTraining

Built = tuple[pl.LightningModule, RowsDataModule]
VALIDATION_BATCH = 128  # drawings
Model = TypeVar("Model", bound=nn.Module)


class Stage(Protocol):
    """One embedded model's training."""

    def build(self, data: StyledDataset, seed: int) -> Built:
        """The module to train and its batches."""
        ...

    def save_and_evaluate(self, data: StyledDataset) -> dict[str, float]:
        """Saves the trained model; returns its measured quality."""
        ...


class AutoencoderStage:
    """Pixels <-> latents, on every drawing that is not held out.

    Args:
        folder: where the model goes.
        autoencoder: untrained.
        perceptual: frozen LPIPS.
        training: makes the LightningModule of these models, with its optimizer and schedule.
        batch_size: drawings a step.
    """

    def __init__(
        self, folder: str, autoencoder: AutoencoderKL, perceptual: PerceptualDistance,
        training: Callable[[AutoencoderKL, PerceptualDistance], AutoencoderTraining], batch_size: Count,
    ) -> None:  # fmt: skip
        self.folder, self.autoencoder, self.perceptual = folder, autoencoder, perceptual
        self.training, self.batch_size = training, batch_size

    def build(self, data: StyledDataset, seed: int) -> Built:
        """L1 + LPIPS + KL on mirrored drawings."""
        seen, held_out = rows_of(data)
        pixels = data.images.pixels

        def mirrored(rows: Tensor, rng: torch.Generator) -> Batch:
            """Returns the drawings of `rows` `(B,)`, half of them mirrored."""
            images = pixels(rows)
            flip = torch.rand(len(rows), generator=rng) < 0.5
            images[flip] = images[flip].flip(-1)
            return {"images": images}

        self.module = self.training(self.autoencoder, self.perceptual)
        fixed = [{"images": pixels(rows)} for rows in held_out.split(VALIDATION_BATCH)]
        return self.module, RowsDataModule(ShuffledRows(seen, self.batch_size, seed, mirrored), fixed)

    def save_and_evaluate(self, data: StyledDataset) -> dict[str, float]:
        """Measures the latents' statistics, saves, and restores held-out drawings."""
        seen, held_out = rows_of(data)
        self.autoencoder.eval()
        self.module.measure_latents(data.images.pixels(seen))
        save_half(self.autoencoder, self.folder)
        images = data.images.pixels(held_out)
        restored = reconstruct(self.autoencoder, images)
        with torch.no_grad():
            pairs = zip(restored.split(VALIDATION_BATCH), images.split(VALIDATION_BATCH), strict=True)
            distance = torch.cat([self.perceptual(a, b) for a, b in pairs])
        return {"l1": float((restored - images).abs().mean()), "lpips": float(distance.mean())}


class DenoiserStage:
    """Latents under captions in three blocks, each dropped on its own.

    Args:
        folder: gets a whole generator: ``unet``, ``scheduler``, and a copy of ``vae``.
        generator_folder: holds ``vae``, whose latents are denoised.
        denoiser: untrained.
        process: the noise process.
        text_encoder: frozen.
        scene: words that target captions may end with.
        drop: chance to drop each of target, attributes and artist style.
        training: makes the LightningModule of these models, with its optimizer and schedule.
        batch_size: drawings a step.
    """

    def __init__(
        self, folder: str, generator_folder: str, denoiser: UNet2DConditionModel, process: VariancePreserving,
        text_encoder: TextEncoder, *, scene: str, drop: Mapping[str, Fraction],
        training: Callable[[DiffusionGenerator, CaptionBank], DenoiserTraining], batch_size: Count,
    ) -> None:  # fmt: skip
        autoencoder = load_autoencoder(generator_folder)
        self.generator = compose_generator(autoencoder, denoiser, process, text_encoder)
        self.folder, self.generator_folder, self.scene, self.drop = folder, generator_folder, scene, drop
        self.training, self.batch_size, self.process = training, batch_size, process

    def build(self, data: StyledDataset, seed: int) -> Built:
        """Denoising loss on latents that are encoded once."""
        seen, held_out = rows_of(data)
        bank = CaptionBank(data.images, data.styles, self.scene, self.generator.text_encoder)
        latents = encode_item_images(self.generator, data.images, data.images.items)
        collate = LatentBatches(latents, bank, self.generator, self.drop)
        self.module = self.training(self.generator, bank)
        self.fixed = fixed_batches(collate, held_out, VALIDATION_BATCH, seed)
        return self.module, RowsDataModule(ShuffledRows(seen, self.batch_size, seed, collate), self.fixed)

    def save_and_evaluate(self, data: StyledDataset) -> dict[str, float]:
        """Saves a whole generator; returns the loss on held-out drawings."""
        self.generator.freeze()
        shutil.copytree(Path(self.generator_folder, "vae"), Path(self.folder, "vae"), dirs_exist_ok=True)
        save_half(self.generator.denoiser.model, f"{self.folder}/unet")
        self.process.scheduler.save_pretrained(f"{self.folder}/scheduler")
        with torch.no_grad():
            losses = [self.module.loss(batch) for batch in self.fixed]
        return {"denoise": float(torch.cat(losses).mean())}


class ScorerStage:
    """The dual encoder that selects, contrasted with every caption of the catalogue.

    Args:
        folder: where the model goes.
        generator_folder: holds ``vae``: half of the images seen are restored ones.
        text_encoder: frozen.
        scene: words that target captions may end with.
        widths: channels of the image encoder's stages.
        training: makes the LightningModule of these models, with its optimizer and schedule.
        batch_size: drawings a step.
    """

    def __init__(
        self, folder: str, generator_folder: str, text_encoder: TextEncoder, *, scene: str, widths: tuple[Count, ...],
        training: Callable[[Scorer, CaptionBank], ScorerTraining], batch_size: Count,
    ) -> None:  # fmt: skip
        self.folder, self.generator_folder, self.scene = folder, generator_folder, scene
        self.text_encoder, self.training, self.batch_size = text_encoder, training, batch_size
        self.scorer = Scorer(ScorerConfig(widths=widths, width=text_encoder.width))

    def build(self, data: StyledDataset, seed: int) -> Built:
        """Contrastive loss on augmented drawings."""
        bank = CaptionBank(data.images, data.styles, self.scene, self.text_encoder)
        self.module = self.training(self.scorer, bank)
        labels = {"rows": torch.arange(len(data.images.items))}
        return self.module, drawing_batches(data, self.generator_folder, labels, self.batch_size, seed)

    def save_and_evaluate(self, data: StyledDataset) -> dict[str, float]:
        """Saves the scorer; how often a held-out drawing's best text is its own."""
        save_half(self.scorer.eval(), self.folder)
        _, held_out = rows_of(data)
        with torch.no_grad():
            return self.module.accuracy(data.images.pixels(held_out), held_out)


class JudgeStage:
    """The classifiers that report.

    Args:
        folder: where the model goes.
        generator_folder: holds ``vae``: half of the images seen are restored ones.
        perceptual: LPIPS, whose AlexNet is the start.
        size: pixels a side that AlexNet sees.
        training: makes the LightningModule of these models, with its optimizer and schedule.
        batch_size: drawings a step.
    """

    def __init__(
        self, folder: str, generator_folder: str, perceptual: PerceptualDistance, size: Count,
        training: Callable[[Judge], JudgeTraining], batch_size: Count,
    ) -> None:  # fmt: skip
        self.folder, self.generator_folder = folder, generator_folder
        self.perceptual, self.size = perceptual, size
        self.training, self.batch_size = training, batch_size

    def build(self, data: StyledDataset, seed: int) -> Built:
        """Cross-entropy on augmented drawings."""
        config = JudgeConfig(size=self.size, styles=sorted(data.styles), concepts=data.images.concepts)
        self.judge = Judge(config).start_from(self.perceptual)
        self.module = self.training(self.judge)
        return self.module, drawing_batches(data, self.generator_folder, self._labels(data), self.batch_size, seed)

    def _labels(self, data: StyledDataset) -> dict[str, Tensor]:
        style = {name: place for place, name in enumerate(self.judge.styles)}
        concept = {name: place for place, name in enumerate(self.judge.concepts)}
        items, styles = data.images.items, data.images.style
        return {
            "style": torch.tensor([style[styles[item.id]] for item in items]),
            "concept": torch.tensor([concept[item.concept] for item in items]),
        }

    def save_and_evaluate(self, data: StyledDataset) -> dict[str, float]:
        """Saves the judge; its accuracy on held-out drawings as drawn and as the autoencoder restores them."""
        save_half(self.judge.eval(), self.folder)
        _, rows = rows_of(data)
        images, labels = data.images.pixels(rows), self._labels(data)
        restored = reconstruct(load_autoencoder(self.generator_folder), images)
        quality = {}
        for name, pixels in (("real", images), ("restored", restored)):
            with torch.no_grad():
                outputs = zip(("style", "concept"), self.judge(pixels), strict=True)
            for head, logits in outputs:
                hits = logits.argmax(1) == labels[head][rows]
                quality[f"{name}_{head}_accuracy"] = float(hits.float().mean())
        return quality


def rows_of(data: StyledDataset) -> tuple[Tensor, Tensor]:
    """Catalogue rows that training may see, and the held-out ones."""
    return data.images.rows(data.training_items), data.images.rows(data.held_out_items)


def save_half(model: ModelMixin | PreTrainedModel, folder: str) -> None:
    """Saves a diffusers or transformers model as fp16 safetensors; the model keeps the rounded weights."""
    if isinstance(model, ModelMixin):
        model.register_to_config(_name_or_path="")  # a second cycle would ship the folder that it started from
    model.half().save_pretrained(folder)
    model.float()


def load_weights(model: Model, folder: Path) -> Model:
    """Copies the weights of a saved model of the same class and sizes into a model; returns the saved one.

    Raises:
        PmgError: the folder is missing or damaged, or its model has other sizes.
    """
    found = load_part(type(model), folder)
    try:
        model.load_state_dict(found.state_dict())
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise PmgError(f"{folder} can't be trained further: {reason}. Set stage.start=null, or its sizes.") from error
    return found


def load_autoencoder(generator_folder: str) -> AutoencoderKL:
    """The generator's autoencoder alone, frozen."""
    return load_frozen(AutoencoderKL, Path(generator_folder, "vae"))


def drawing_batches(
    data: StyledDataset, generator_folder: str, labels: dict[str, Tensor], batch_size: int, seed: int
) -> RowsDataModule:
    """Augmented training batches, half of them restored by the autoencoder, and plain held-out ones."""
    seen, held_out = rows_of(data)
    autoencoder = load_autoencoder(generator_folder)
    everything = data.images.pixels(torch.arange(len(data.images.items)))
    restored = to_uint8(reconstruct(autoencoder, everything))
    collate = DrawingBatches(data.images.uint8, restored, labels)
    fixed = [collate.plain(rows) for rows in held_out.split(VALIDATION_BATCH)]
    return RowsDataModule(ShuffledRows(seen, batch_size, seed, collate), fixed)
