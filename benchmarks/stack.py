"""What is measured: the embedded stack, built from the project's own config as the commands build it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

import pmg
from pmg.configuration.instantiate import instantiate
from pmg.data.dataset import Dataset
from pmg.domain import Example
from pmg.generation.pipeline import Pipeline, build_pipeline
from pmg.generation.requests import Request
from pmg.models.diffusion.generator import DiffusionGenerator
from pmg.models.preference.visual_encoder import VisualPreferenceEncoder
from pmg.orchestration.builders import Builder
from pmg.orchestration.run import Run
from pmg.preferences.extraction import ExtractedPreferences, PreferenceExtractor
from pmg.preferences.keyword_decoding import Decoding
from pmg.preferences.scenarios import verbalize_history
from pmg.training.datamodule import RowsDataModule
from pmg.training.latents import encode_item_images
from pmg.training.preference import FrozenModels, PreferenceTraining
from pmg.training.preference_setup import TrainingSamples, build_batches, build_module, encode_texts, list_samples
from pmg.training.visual_inputs import UsersPictures, VisualHistories

TINY = (  # the language model alone: all others are small
    "language_model._target_=pmg.models.tiny_models.tiny_language_model",
    "~language_model.source", "~language_model.dtype", "~language_model.cache_dir",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        folder: of caches and of runs that are made meanwhile.
        overrides: of every config, beside those of the part.
        users: training users.
        test_users: users that images are made for.
        batch: of them at once.
        naive_steps: of the solver, in the naive way; the first number counts.
        rounds: repetitions of each way.
        training_steps: timed in a round, in our way and in the naive one.
        naive_examples: of a training step in the naive way, which takes much memory.
        keyword_users: read in a round.
        commands: that are started, by verb; none: all.
        warm_up: runs of a command that fill the cache before it is measured.
        starts: of each command.
        growth: of each thing that grows, its sizes.
        matrix: sides of the square matrices that show what the machine can do.
        compiled: whether steps are looked at compiled, too; that takes minutes for models of any size.
    """

    folder: Path
    overrides: tuple[str, ...]
    users: int
    test_users: int
    batch: int
    naive_steps: tuple[int, ...]
    rounds: int
    training_steps: tuple[int, int]
    naive_examples: int
    keyword_users: int
    commands: tuple[str, ...]
    warm_up: int
    starts: int
    growth: dict[str, tuple[int, ...]]
    matrix: tuple[int, ...]
    compiled: bool

    def compose(self, command: str, *overrides: str) -> DictConfig:
        """The config of a command, as its command line would make it."""
        return pmg.compose(command, [f"run_dir={self.folder / 'run'}", *overrides, *self.overrides])


def full(folder: Path) -> Plan:
    """Returns the plan of the recorded benchmark.

    50 steps are the default of most of diffusers' pipelines of flow matching, 28 of Stable Diffusion 3 and FLUX.1.
    """
    growth = {
        "users": (5, 10, 20, 40), "history": (2, 4, 8, 12), "candidates": (1, 2, 4, 8),
        "memory": (40, 80, 160, 320),  # from more users than one step has
    }  # fmt: skip
    return Plan(folder, (), 50, 100, 25, (50, 28), 5, (4, 1), 4, 8, (), 1, 3, growth, (1024, 2048, 4096), True)


def smoke(folder: Path) -> Plan:
    """Returns the same at toy length with a tiny language model: nothing that it measures means anything."""
    few = ("data.topics=[animal-mammal,food-fruit,musical-instrument]", "data.users.targets=1")
    sizes = ("objective.users_per_step=2", "trainer=cpu", "sampling.steps=2")
    overrides = (*TINY, f"paths.cache_dir={folder / 'cache'}", *few, *sizes)
    growth = {"users": (2, 4), "history": (2, 4), "candidates": (1, 2), "memory": (2, 4)}
    return Plan(folder, overrides, 4, 4, 2, (3,), 2, (2, 1), 2, 2, ("train",), 0, 1, growth, (64,), False)


class Study:
    """A command's config and what it builds, each part when it is first asked for.

    Args:
        plan: how much is measured.
        command: the verb.
        overrides: of its config.
    """

    def __init__(self, plan: Plan, command: str, *overrides: str) -> None:
        sizes = f"split_sizes={{train: {plan.users}, validation: 2, test: {plan.test_users}}}"
        self.plan, self.cfg = plan, plan.compose(command, *overrides, sizes)
        self.run = Run(Path(self.cfg.run_dir), command)
        self.builder = Builder(self.cfg, self.run)

    @property
    def data(self) -> Dataset:
        """Pictures and users."""
        return self.builder.data

    @property
    def generator(self) -> DiffusionGenerator:
        """The frozen generator."""
        return self.builder.generator

    @cached_property
    def extractor(self) -> PreferenceExtractor:
        """Reads histories."""
        with self.builder.extractor(self.generator.text_encoder) as extractor:
            return extractor

    @cached_property
    def inputs(self) -> VisualHistories:
        """Prepares what the encoder takes of a user."""
        return instantiate(self.cfg.inputs)

    @cached_property
    def decoding(self) -> Decoding:
        """Makes keywords of attributes."""
        return instantiate(self.cfg.decoding)

    def examples(self, split: str) -> list[Example]:
        """The examples of a split."""
        return self.builder.examples(split)

    def looks(self, examples: Sequence[Example]) -> dict[str, str]:
        """Captions of the items in histories, by id."""
        return self.builder.captions(examples)

    def histories(self, examples: Sequence[Example]) -> list[str]:
        """What the language model reads of each example."""
        looks = self.looks(examples)
        return [verbalize_history(example, self.extractor.scenario, looks) for example in examples]

    def extract(self, examples: Sequence[Example]) -> ExtractedPreferences:
        """Contexts and keywords, from the cache where they are known."""
        return self.extractor.extract(examples, self.looks(examples), [self.decoding])


@dataclass(frozen=True)
class Training:
    """A training as ``pmg-train`` builds it.

    Attributes:
        study: its config and models.
        examples: of training and validation users.
        extracted: of these users.
        samples: what is drawn from.
        module: what is trained.
        batches: of the training.
    """

    study: Study
    examples: list[Example]
    extracted: ExtractedPreferences
    samples: TrainingSamples
    module: PreferenceTraining
    batches: RowsDataModule


def build_training(study: Study) -> Training:
    """Builds module and batches by `study`'s config."""
    cfg, extractor = study.cfg, study.extractor
    train, validation = study.examples("train"), study.examples("validation")
    examples = [*train, *validation]
    extracted = study.extract(examples)
    targets = extractor.describe([example.target for example in examples])
    texts, text_embeddings = encode_texts(
        extracted.keywords(study.decoding), list(targets.values()), study.generator.text_encoder
    )
    inputs: UsersPictures = study.inputs(extracted, examples, study.data.images)
    samples = list_samples(train, validation, extracted, list(targets), study.data.taste_label)
    latents = encode_item_images(study.generator, study.data.images, samples.truths, None)
    batches = build_batches(
        samples, inputs, study.generator, instantiate(cfg.objective.batches),
        users_per_step=cfg.objective.users_per_step, seed=0, latents=latents,
    )  # fmt: skip
    objective = instantiate(
        cfg.objective.module, optimizer=instantiate(cfg.optimizer), lr_scheduler=instantiate(cfg.lr_scheduler)
    )
    module = build_module(
        FrozenModels(extractor.language_model, study.generator), inputs, texts, text_embeddings,
        instantiate(cfg.preference_encoder), objective,
    )  # fmt: skip
    return Training(study, examples, extracted, samples, module, batches)


def build_study(plan: Plan, *overrides: str) -> Study:
    """Returns a ``pmg-study`` with the settings of the recorded studies, one target a test user."""
    return Study(plan, "study", "experiment=components", "targets.test=1", *overrides)


def build_requests(study: Study, examples: Sequence[Example]) -> list[Request]:
    """Returns what PMG asks for, with soft tokens of an untrained encoder of the config.

    Time is measured, and whether two ways draw as good pictures of the same requests; untrained tokens are drawn as
    fast as trained ones, and start as the mean style of the pictures that a user liked.
    """
    extracted = study.extract(examples)
    targets = study.extractor.describe([example.target for example in examples])
    inputs: UsersPictures = study.inputs(extracted, examples, study.data.images)
    soft = _encoder(study, inputs).encode(study.extractor.language_model, inputs)
    rows, keywords = extracted.rows([example.profile for example in examples]), extracted.keywords(study.decoding)
    return [
        Request(targets[example.target.concept], keywords[row], True, soft[row], seed)
        for seed, (row, example) in enumerate(zip(rows, examples, strict=True))
    ]


def _encoder(study: Study, inputs: UsersPictures) -> VisualPreferenceEncoder:
    block = study.generator.text_encoder.encode(["a picture"])
    make, sample = instantiate(study.cfg.preference_encoder), inputs.select(range(len(inputs)))
    return make(study.extractor.language_model, block.tokens[block.mask], sample)


def build_drawing(study: Study, **parts: Any) -> Pipeline:
    """The pipeline of `study`'s config, with other parts of it where `parts` has some."""
    return build_pipeline({**study.cfg, **parts}, study.cfg.device)
