"""Training: examples a second against the naive way, both in Lightning's own loop."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, IterableDataset

from benchmarks.naive_training import NaiveTraining
from benchmarks.plain_models import plain_language_model, plain_models
from benchmarks.stack import Plan, Study, Training, build_training
from benchmarks.timing import alternate, speedup
from pmg.configuration.instantiate import instantiate
from pmg.training.datamodule import ShuffledRows

OVERRIDES = ("experiment=encoders",)


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
    """Batches of `training`'s examples as texts and pictures, one draw an example.

    Args:
        training: whose examples, in the order of its batches.
        examples: of a batch.
    """

    def __init__(self, training: Training, examples: int) -> None:
        study, collate = training.study, copy.copy(training.batches.train.collate)
        collate.draws, self.collate = 1, collate
        self.batches = ShuffledRows(training.batches.train.rows, examples, 0, collate)
        profiles = training.extracted.profiles
        first = {example.profile: example for example in reversed(training.examples)}
        self.histories = study.histories([first[profile] for profile in profiles])
        self.keywords = training.extracted.keywords(study.decoding)
        described = study.extractor.describe([example.target for example in training.examples])
        self.targets = [str(words) for words in described.values()]
        store, most = study.data.images, study.inputs.pictures
        seen = [first[profile].history[-most:] for profile in profiles]
        self.liked = [torch.tensor([one.liked for one in some]) for some in seen]
        self.pictures = [store.pixels(store.rows([one.item for one in some])) for some in seen]
        self.truths = store.pixels(store.rows(training.samples.truths))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        step = 0
        while True:
            yield self.translate(self.batches.batch(step))
            step += 1

    def translate(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Returns one of `batches` as the naive way takes it."""
        users, kept = (
            batch["users"].tolist(),
            zip(batch["target"].tolist(), batch["keep_target"].tolist(), strict=True),
        )
        return {
            "histories": [self.histories[user] for user in users],
            "pictures": [self.pictures[user] for user in users],
            "liked": [self.liked[user] for user in users],
            "targets": [self.targets[target] if keep else "" for target, keep in kept],
            "keywords": [str(self.keywords[user]) for user in users],
            "truths": self.truths[batch["image"]],
            **{name: batch[name] for name in ("noise", "times", "keep_keywords", "keep_soft")},
        }


def build_naive(training: Training) -> NaiveTraining:
    """Returns the naive way of the same training, on copies of the same weights."""
    study, language_model = training.study, training.study.extractor.language_model
    return NaiveTraining(
        copy.deepcopy(training.module.encoder), plain_language_model(language_model), language_model.tokenizer,
        study.inputs.tower.encoder, plain_models(study.generator), study.cfg.optimizer.lr,
    )  # fmt: skip


def measure(plan: Plan) -> dict[str, Any]:
    """Returns examples a second of both ways, in steps of so many examples as each can take."""
    training = build_training(Study(plan, "train", *OVERRIDES))
    naive = build_naive(training)
    plain = DataLoader(NaiveBatches(training, plan.naive_examples), batch_size=None)

    def ours_way() -> float:
        run_steps(training, training.module, training.batches, plan.training_steps[0] + 1, times := StepTimes())
        return times.median()

    def naive_way() -> float:
        run_steps(training, naive, plain, plan.training_steps[1] + 1, times := StepTimes())
        return times.median()

    times = alternate({"ours": ours_way, "naive": naive_way}, plan.rounds, "Training")
    objective = training.study.cfg.objective
    examples = {"ours": objective.users_per_step * objective.batches.draws, "naive": plan.naive_examples}
    rates = [[count / seconds for seconds in times[way]] for way, count in examples.items()]
    sizes = {"users_per_step": objective.users_per_step, "draws": objective.batches.draws, "examples": examples}
    return {"speedup": speedup(*rates), **sizes, "precision": str(training.study.cfg.trainer.precision)}
