"""The stages of `pmg-pretrain` on looks: autoencoder and denoiser, of any data set that has pictures and looks."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderDC, ModelMixin
from torch import Tensor
from transformers import PreTrainedModel

from pmg.configuration.ranges import Count, CountOrZero, Fraction, NotNegative
from pmg.data.picture_groups import PictureGroups
from pmg.domain import PmgError
from pmg.looks.drawings import LookData
from pmg.looks.finish_targets import SIZE, finish_errors
from pmg.looks.models.efficientnet_lite import EfficientNetLite
from pmg.looks.models.judge import LookJudge, LookJudgeConfig
from pmg.looks.models.scorer import LookScorer
from pmg.looks.stages.autoencoder import LookAutoencoderTraining
from pmg.looks.stages.denoiser import LookBatches
from pmg.looks.stages.judge import CONCEPTS, FINISHES, JudgeBatches, LookJudgeTraining, style_accuracy
from pmg.looks.stages.pool import LookPool
from pmg.looks.stages.pool_stage import LookPoolStage
from pmg.looks.stages.scorer import LookScorerTraining, ScorerBatches
from pmg.looks.targets import LookChoice
from pmg.models.diffusion.latent_codec import AutoencoderDCCodec
from pmg.models.diffusion.text_encoder import TextEncoder
from pmg.models.vision.perceptual import PerceptualDistance
from pmg.preferences.captioning import PictureDescriber
from pmg.seeding import stable_number
from pmg.training.datamodule import Batch, RowsDataModule, ShuffledRows, seeded
from pmg.training.pretraining import VALIDATION_BATCH, Built, count_groups, load_weights, save_half

STATISTICS_PICTURES = 4096  # of the latents' mean and deviation


class LookAutoencoderStage:
    """Pixels <-> latents, on every picture that is not held out.

    Args:
        folder: where the model goes.
        autoencoder: untrained.
        perceptual: frozen LPIPS.
        training: makes the LightningModule of these models, with its optimizer and schedule.
        batch_size: pictures a step.
        start: folder of an earlier training, whose weights are trained further; None: from scratch.

    Raises:
        PmgError: `start` is missing, or holds a model of other sizes.
    """

    def __init__(
        self, folder: str, autoencoder: AutoencoderDC, perceptual: PerceptualDistance,
        training: Callable[[AutoencoderDC, PerceptualDistance], LookAutoencoderTraining], batch_size: Count,
        start: str | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.perceptual, self.batch_size = folder, perceptual, batch_size
        if start is not None:
            load_weights(autoencoder, Path(start))
        self.autoencoder = autoencoder.to(memory_format=torch.channels_last)  # 1.1 times faster on processors
        self.module = training(self.autoencoder, perceptual)

    def build(self, data: PictureGroups, seed: int) -> Built:
        """L1 + LPIPS on pictures as the data set varies them."""
        return self.module, picture_batches(data, self.batch_size, seed)

    def save_and_evaluate(self, data: PictureGroups) -> dict[str, float]:
        """Measures the latents' statistics, saves, and restores held-out pictures."""
        self.autoencoder.eval()
        train = data.picture_source("train")
        some = torch.arange(0, len(train), max(1, len(train) // STATISTICS_PICTURES))
        codec = AutoencoderDCCodec.measure(self.autoencoder, train.draw(some, seeded("latent statistics")))
        save_half(self.autoencoder, self.folder)
        codec.save_statistics(self.folder)
        images = fixed_pictures(data, 0)
        restored = codec.decode(codec.encode(images))
        return measure_restored(self.perceptual, restored, images)


def picture_batches(data: PictureGroups, batch_size: int, seed: int) -> RowsDataModule:
    """Returns batches of ``images``: of training pictures, each as the data set varies it, and of held-out ones."""
    train = data.picture_source("train")

    def collate(rows: Tensor, rng: torch.Generator) -> Batch:
        """Returns the pictures of `rows` `(B,)`."""
        return {"images": train.draw(rows, rng)}

    fixed = [{"images": images} for images in fixed_pictures(data, seed).split(VALIDATION_BATCH)]
    return RowsDataModule(ShuffledRows(torch.arange(len(train)), batch_size, seed, collate), fixed)


@torch.no_grad()
def measure_restored(perceptual: PerceptualDistance, restored: Tensor, images: Tensor) -> dict[str, float]:
    """Returns mean L1 and LPIPS of restored pictures to the pictures, `(N, 3, H, W)` in [-1, 1] each."""
    pairs = zip(restored.split(VALIDATION_BATCH), images.split(VALIDATION_BATCH), strict=True)
    distance = torch.cat([perceptual(a, b) for a, b in pairs])
    return {"l1": float((restored - images).abs().mean()), "lpips": float(distance.mean())}


def fixed_pictures(data: PictureGroups, seed: int) -> Tensor:
    """Returns held-out pictures for validation, `(N, 3, H, W)`: the same for the same seed."""
    source = data.picture_source("validation")
    return source.draw(torch.arange(min(len(source), 2 * VALIDATION_BATCH)), seeded(seed, "validation pictures"))


class LookDenoiserStage(LookPoolStage):
    """A denoiser and its style encoder, on a pool of looks; see `LookPoolStage`."""

    quality = "denoise"

    def _parts(self) -> list[tuple[ModelMixin | PreTrainedModel, str]]:
        return [(self.model.denoiser.model, self.model.denoiser.folder), (self.model.style_encoder, "style_encoder")]

    def _collate(self, pool: LookPool, data: PictureGroups, split: str) -> LookBatches:
        """Returns batches of latents, noise and times.

        Raises:
            PmgError: the denoiser takes other latents.
        """
        shape, wanted = tuple(pool.latents.shape[2:]), tuple(self.model.denoiser.latent_shape)
        if shape != wanted:
            raise PmgError(
                f"the pictures' latents are {shape}, the denoiser takes {wanted}: prepare pictures of another size "
                "(pmg-prepare source.pictures.size=64 for 8 x 8), or change "
                "stage.training.model.denoiser.model.sample_size"
            )
        return self._look_batches(pool, data, split, self.model.process)


class LookJudgeStage:
    """The judge of looks.

    Args:
        folder: where the model goes.
        generator_folder: holds ``vae``: a share of the pictures goes through it.
        trunk: whose convolutions are the start.
        frozen_stages: of the first ones, which are not trained on.
        size: pixels a side that they see.
        restored: share of the pictures that go through the autoencoder.
        spread: of a look's finishes.
        training: makes the LightningModule of these models, with its optimizer and schedule.
        batch_size: pictures a step, eight of each artist.
        start: folder of an earlier judge of the same concepts, which is trained further; None: `trunk`.

    Raises:
        PmgError: `batch_size` is no multiple of eight.
    """

    def __init__(
        self, folder: str, generator_folder: str, trunk: EfficientNetLite, *, frozen_stages: CountOrZero,
        size: Count, restored: Fraction, spread: NotNegative, training: Callable[[LookJudge], LookJudgeTraining],
        batch_size: Count, start: str | None = None,
    ) -> None:  # fmt: skip
        self.artists, self.start = count_groups(batch_size, FINISHES * CONCEPTS), start
        self.folder, self.generator_folder, self.trunk = folder, Path(generator_folder), trunk
        self.frozen_stages = frozen_stages
        self.size, self.restored, self.spread, self.training = size, restored, spread, training

    def build(self, data: PictureGroups, seed: int) -> Built:
        """Batches of looks with their hardest rivals; validation on held-out drawings.

        Raises:
            PmgError: the data has no finishes, or fewer artists than a batch; `start` is missing, or a judge of other
                sizes or concepts.
        """
        if not isinstance(data, LookData):
            raise PmgError(
                "stage=look_judge learns the finishes that data=looks draws, and other data has none. "
                "Compare pictures of your own with metrics=distances, which needs no judge."
            )
        config = LookJudgeConfig(size=self.size, values=SIZE, concepts=tuple(data.drawings.concepts))
        self.judge = LookJudge(config).start_from(self.trunk, self.frozen_stages).to(memory_format=torch.channels_last)
        if self.start is not None:
            started = load_weights(self.judge, Path(self.start))
            if started.config.concepts != config.concepts:
                raise PmgError(f"{self.start} judges other concepts than the data has. Set stage.start=null.")
        codec = AutoencoderDCCodec.from_folder(self.generator_folder / "vae")
        batches = JudgeBatches(data, codec, self.restored, self.spread, self.artists)
        self.module = self.training(self.judge)
        rng = random.Random(stable_number(seed, "judge validation"))
        held_out = data.rows("validation").tolist()
        fixed = [
            batches.label(rows, [data.space.sample(rng, seen=rng.random() < 0.75) for _ in rows], None)
            for rows in (
                held_out[start : start + VALIDATION_BATCH] for start in range(0, len(held_out), VALIDATION_BATCH)
            )
        ]
        self.fixed = fixed
        return self.module, RowsDataModule(ShuffledRows(torch.arange(1), 1, seed, batches), fixed)

    def save_and_evaluate(self, data: LookData) -> dict[str, float]:
        """Saves the judge; its accuracy on held-out drawings."""
        save_half(self.judge.eval(), self.folder)
        with torch.no_grad():
            readings = [self.judge(batch["images"]) for batch in self.fixed]
        pairs = list(zip(readings, self.fixed, strict=True))
        concept = torch.cat([reading.concept.argmax(1) == batch["concept"] for reading, batch in pairs])
        errors = torch.cat([finish_errors(r.finish, batch["values"], batch["traces"]) for r, batch in pairs])
        return {
            "real_concept_accuracy": float(concept.float().mean()),
            "real_finish_error": float(errors.mean()),
            "real_style_accuracy": style_accuracy(self.judge, data, LookChoice(data, self.spread)),
        }


class LookScorerStage:
    """The dual encoder that selects among candidates.

    Args:
        folder: where the model goes.
        generator_folder: holds ``vae``: a share of the pictures goes through it.
        text_encoder: frozen.
        captioner: describes pictures in words.
        scorer: to train, of vectors as wide as the text encoder's.
        scene: words that titles may end with.
        restored: share of the pictures that go through the autoencoder.
        training: makes the LightningModule of these models, with its optimizer and schedule.
        batch_size: pictures a step.
        start: folder of an earlier scorer of the same text encoder, which is trained further; None: `scorer` as it is.

    Raises:
        PmgError: `start` is missing, or holds a scorer of other sizes; or the text encoder has another width.
    """

    def __init__(
        self, folder: str, generator_folder: str, text_encoder: TextEncoder, captioner: PictureDescriber,
        scorer: LookScorer, *, scene: str, restored: Fraction, training: Callable[[LookScorer], LookScorerTraining],
        batch_size: Count, start: str | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.generator_folder, self.batch_size = folder, Path(generator_folder), batch_size
        self.text_encoder, self.captioner, self.scene, self.restored = text_encoder, captioner, scene, restored
        if scorer.config.width != (width := text_encoder.width):
            raise PmgError(f"the text encoder's vectors are {width} wide. Set stage.scorer.width={width}.")
        self.scorer = scorer.to(memory_format=torch.channels_last)
        if start is not None:
            load_weights(self.scorer, Path(start))
        self.module = training(self.scorer)

    def build(self, data: PictureGroups, seed: int) -> Built:
        """Contrast with titles and words; validation on held-out drawings."""
        codec = AutoencoderDCCodec.from_folder(self.generator_folder / "vae")

        def batches(split: str) -> ScorerBatches:
            """Returns what makes the batches of a split."""
            rows = data.rows(split)
            return ScorerBatches(
                data, rows, self.captioner, self.text_encoder, codec, restored=self.restored, scene=self.scene
            )

        train, held_out = batches("train"), batches("validation")
        parts = torch.arange(len(held_out.rows)).split(VALIDATION_BATCH)
        self.fixed = [held_out(part, seeded(seed, "validation", number)) for number, part in enumerate(parts)]
        rows = torch.arange(len(train.rows))
        return self.module, RowsDataModule(ShuffledRows(rows, self.batch_size, seed, train), self.fixed)

    def save_and_evaluate(self, data: PictureGroups) -> dict[str, float]:
        """Saves the scorer; its accuracy on held-out drawings."""
        save_half(self.scorer.eval(), self.folder)
        with torch.no_grad():
            parts = [(self.module.accuracy(batch), len(batch["images"])) for batch in self.fixed]
        count = sum(size for _, size in parts)
        return {name: sum(part[name] * size for part, size in parts) / count for name in parts[0][0]}
