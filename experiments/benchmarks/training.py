"""Training: examples a second against the naive way, both in Lightning's own loop."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
from diffusers.models.attention_processor import AttnProcessor2_0
from torch.utils.data import DataLoader, IterableDataset

from benchmarks.naive_training import NaiveTraining
from benchmarks.stack import Plan, Study, Training, build_training
from benchmarks.timing import alternate, speedup
from pmg.configuration.instantiate import instantiate
from pmg.models.diffusion.generator import DiffusionGenerator
from pmg.models.language.language_model import LanguageModel

OVERRIDES = ("experiment=placement",)  # its 16 users a step: with a prefix in front more of them take much memory


class StepTimes(pl.Callback):
    """Notes when each training step ends.

    Attributes:
        ends: seconds of a clock.
    """

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: object) -> None:
        """Notes one."""
        self.ends.append(time.perf_counter())

    def median(self) -> float:
        """Seconds a step, the first one left out."""
        return statistics.median(b - a for a, b in zip(self.ends, self.ends[1:], strict=False))


def run_steps(training: Training, module: pl.LightningModule, batches: Any, steps: int, *callbacks: Any) -> None:
    """Trains `steps` steps as ``pmg-train`` does, without files."""
    quiet = {"enable_progress_bar": False, "enable_checkpointing": False, "logger": False, "limit_val_batches": 0}
    trainer = instantiate(training.study.cfg.trainer, callbacks=list(callbacks), max_steps=steps, **quiet)
    trainer.fit(module, batches)


class NaiveBatches(IterableDataset):
    """The batches of `training` as texts and pictures.

    Args:
        training: whose batches.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        study = training.study
        examples = [*training.train, *study.examples("validation")]
        first = {example.profile: example for example in reversed(examples)}
        self.histories = study.histories([first[profile] for profile in training.extracted.profiles])
        self.keywords = training.extracted.keywords(study.decoding)
        described = study.extractor.describe([example.target for example in examples])
        self.targets = [str(words) for words in described.values()]
        truths = list({item.id: item for example in examples for item in example.truth}.values())
        self.pictures = study.data.images.pixels(study.data.images.rows(truths))
        self.rows = {
            latent.numpy().tobytes(): row for row, latent in enumerate(training.batches.train.collate.latents)
        }

    def __iter__(self) -> Iterator[dict[str, Any]]:
        step = 0
        while True:
            yield self.translate(self.training.batches.train.batch(step))
            step += 1

    def translate(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One of our batches, the same questions."""
        draws = len(batch["target"]) // len(batch["users"])
        truths = [self.rows[latent.numpy().tobytes()] for latent in batch["latents"]]
        users = batch["users"].tolist()
        kept = zip(batch["target"].tolist(), batch["keep_target"].tolist(), strict=True)
        asked = {name: batch[name] for name in ("noise", "times", "keep_keywords", "keep_soft")}
        return {
            "histories": [self.histories[user] for user in users],
            "targets": [self.targets[target] if keep else "" for target, keep in kept],
            "keywords": [str(self.keywords[user]) for user in users for _ in range(draws)],
            "pictures": self.pictures[truths],
            **asked,
        }


def plain_language_model(language_model: LanguageModel) -> Any:
    """The model of transformers alone, with its own attention."""
    model = copy.deepcopy(language_model.model)
    model.set_attn_implementation("sdpa")
    return model


def plain_denoiser(generator: DiffusionGenerator) -> Any:
    """The denoiser of diffusers alone, with its own attention."""
    denoiser = copy.deepcopy(generator.denoiser.model)
    denoiser.set_attn_processor(AttnProcessor2_0())
    return denoiser


def build_naive(training: Training) -> NaiveTraining:
    """The naive way of the same training, on copies of the same weights."""
    study, module = training.study, training.module
    language_model, generator = study.extractor.language_model, study.generator
    return NaiveTraining(
        copy.deepcopy(module.encoder), plain_language_model(language_model), language_model.tokenizer,
        generator.codec.autoencoder, plain_denoiser(generator), generator.process.scheduler,
        generator.text_encoder.model, generator.text_encoder.tokenizer, study.cfg.optimizer.lr,
        generator.process.snr_gamma,
    )  # fmt: skip


def measure(plan: Plan) -> dict[str, Any]:
    """Examples (questions) a second; both ways see the same batches and read each user once a step."""
    training = build_training(Study(plan, "train", *OVERRIDES))
    naive = build_naive(training)
    plain = DataLoader(NaiveBatches(training), batch_size=None)

    def ours_way() -> float:
        run_steps(training, training.module, training.batches, plan.training_steps[0] + 1, times := StepTimes())
        return times.median()

    def naive_way() -> float:
        run_steps(training, naive, plain, plan.training_steps[1] + 1, times := StepTimes())
        return times.median()

    times = alternate({"ours": ours_way, "naive": naive_way}, plan.rounds, "Training")
    objective = training.study.cfg.objective
    examples = objective.users_per_step * objective.batches.draws
    rates = [[examples / seconds for seconds in times[way]] for way in ("ours", "naive")]
    sizes = {"users_per_step": objective.users_per_step, "draws": objective.batches.draws}
    return {"speedup": speedup(*rates), **sizes, "precision": str(training.study.cfg.trainer.precision)}
