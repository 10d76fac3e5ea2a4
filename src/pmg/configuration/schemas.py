"""Schemas of the commands' configs, by which Hydra refuses unknown top-level keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Le

from pmg.configuration.ranges import Count, CountOrZero, Fraction, NotNegative
from pmg.configuration.schema_base import ComparisonConfig, RunConfig, ranged
from pmg.configuration.survey_schema import SurveyConfig


@dataclass
class CountsConfig:
    """A number for each split; null: all."""

    train: int | None = ranged(None, Count | None)
    validation: int | None = ranged(None, Count | None)
    test: int | None = ranged(None, Count | None)


@dataclass
class PrepareConfig(RunConfig):
    """``pmg-prepare``: makes a data set (`data`) from its published files (`source`)."""

    data: Any = None
    source: Any = None


@dataclass
class PretrainConfig(RunConfig):
    """``pmg-pretrain``: trains one embedded model (`stage`).

    Attributes:
        into: second destination of the trained model: ``assets``, or a folder of that layout; null: none.
        full_steps: steps of the whole stage; the model of a shorter training is not copied to the assets.
    """

    into: str | None = None
    full_steps: int = ranged(0, Count)
    dtype: str = "auto"
    stage: Any = None
    optimizer: Any = None
    lr_scheduler: Any = None
    card: Any = None
    picture: Any = None
    data: Any = None
    text_encoder: Any = None
    trainer: Any = None
    callbacks: Any = None
    logger: Any = None


@dataclass
class ReadingConfig(RunConfig):
    """Keys of commands that read histories; the scorer is used by captioners and encoders with image input.

    Attributes:
        device: device of frozen models; auto: a GPU if available.
        dtype: floating point type of the language model and of matrix products: auto, bfloat16 or float32.
        keep_contexts: whether contexts are cached, and encoded keywords kept in memory; false: recomputed for each
            batch, for very many users.
    """

    device: str = "auto"
    dtype: str = "auto"
    data: Any = None
    scenario: Any = None
    captioner: Any = None
    decoding: Any = None
    text_encoder: Any = None
    encoder: Any = None
    scorer: Any = None
    logger: Any = None
    keep_contexts: bool = True


@dataclass
class KeywordsConfig(ReadingConfig):
    """``pmg-keywords``: extracts keywords of real users and measures how well they predict later likes.

    Attributes:
        splits: splits whose users are compared.
        users: number of users; null: all.
        attribute: attribute of the scenario whose options are the vocabulary of the comparison.
        history_items: number of likes in the history.
        later_items: minimum number of later likes; users with fewer are left out.
        results_dir: folder of results and keywords.
    """

    splits: list[str] = field(default_factory=list)
    users: int | None = ranged(None, Count | None)
    attribute: str = ""
    history_items: int = ranged(12, Count)
    later_items: int = ranged(5, Count)
    results_dir: str | None = None


@dataclass
class Shard:
    """A shard of a command's work.

    Attributes:
        index: number of the shard, from 0; null: all shards, in processes of this machine, and then merged.
        count: number of shards.
    """

    index: int | None = ranged(None, CountOrZero | None)
    count: int = ranged(1, Count)


@dataclass
class ExamplesConfig(ReadingConfig):
    """Keys of training and generation: users of each split, with their targets and histories.

    Attributes:
        compile: whether to compile the frozen models by ``torch.compile``, which saves time in long runs.
        split_sizes: number of users of each split.
        targets: number of targets of each user.
        history_items: number of latest interactions in a history; null: all.
    """

    generator: Any = None
    compile: bool = False
    split_sizes: CountsConfig = field(default_factory=CountsConfig)
    targets: CountsConfig = field(default_factory=CountsConfig)
    history_items: CountsConfig = field(default_factory=CountsConfig)


@dataclass
class TrainConfig(ExamplesConfig):
    """``pmg-train``: trains the preference encoder.

    Attributes:
        init_from: folder of a ``pmg-train`` run with the initial weights.
    """

    objective: Any = ranged(None, users_per_step=Count)
    optimizer: Any = None
    lr_scheduler: Any = None
    trainer: Any = None
    callbacks: Any = None
    init_from: str | None = None


@dataclass
class GenerateConfig(ExamplesConfig):
    """``pmg-generate``: generates personalised images.

    Attributes:
        train_run: folder of the ``pmg-train`` run that ``preference.soft`` takes its encoder from.
        pipeline: folder of ``pmg-export``, in place of a training run.
        split: split of the users: test, or validation, on whom choices are made.
        mismatched: whether methods are also run with another user's preference, as a control.
        sheet_users: number of users in the images for loggers.
        shard: the images that this process generates.
    """

    method: Any = None
    balance: Any = ranged(None, alpha=Fraction)
    sampling: Any = ranged(None, steps=Count | None, guidance=NotNegative, batch_size=Count)
    preference: Any = None
    train_run: str | None = None
    pipeline: str | None = None
    split: str = "test"
    mismatched: bool = True
    sheet_users: int = ranged(20, Count)
    shard: Shard = field(default_factory=Shard)


@dataclass
class EvaluateConfig(RunConfig):
    """``pmg-evaluate``: computes metrics of generated images; data, users and models are those of the generation.

    Attributes:
        device: device of frozen models; auto: a GPU if available.
        metrics: metrics by name.
        comparison: the arms that all others are compared with.
        generate_run: folder of the ``pmg-generate`` run.
        results_dir: folder of results and tables.
        sheet_users: number of users on the contact sheet.
        shard: the images that this process evaluates.
    """

    device: str = "auto"
    metrics: Any = None
    comparison: ComparisonConfig = field(default_factory=ComparisonConfig)
    logger: Any = None
    generate_run: str | None = None
    results_dir: str | None = None
    sheet_users: int = ranged(20, Count)
    shard: Shard = field(default_factory=Shard)


@dataclass
class StudyConfig(TrainConfig, GenerateConfig, EvaluateConfig):
    """``pmg-study``: trains, generates and evaluates."""


@dataclass
class ExportConfig(RunConfig):
    """``pmg-export``: exports a training run as a pipeline folder.

    Attributes:
        train_run: folder of the ``pmg-train`` run.
        folder: of the pipeline.
        copy_frozen: whether to copy the frozen models' weights into it; else it contains their sources.
        dtype: of sampling: auto, bfloat16 or float32.
        half: whether the trained weights are written in float16.
        results: ``results.json`` of ``pmg-evaluate``, for the model card; null: none.
        title: of the model card.
        license: of the trained weights, in the hub's notation.
        push_to: id of a hub repository to upload to; null: none.
        private: whether a new repository is private.
    """

    train_run: str | None = None
    folder: str | None = None
    copy_frozen: bool = False
    dtype: str = "auto"
    half: bool = False
    results: str | None = None
    title: str = ""
    license: str = "apache-2.0"
    push_to: str | None = None
    private: bool = True
    balance: Any = ranged(None, alpha=Fraction)
    sampling: Any = ranged(None, steps=Count | None, guidance=NotNegative, batch_size=Count)


@dataclass
class EstimateConfig(TrainConfig):
    """``pmg-estimate``: forecasts the memory of a ``pmg-train`` with the same overrides.

    Attributes:
        history_tokens: tokens of a history.
        profiles_per_user: number of histories of each user.
    """

    history_tokens: int = ranged(250, Count)
    profiles_per_user: int = ranged(1, Count)


@dataclass
class AppConfig(RunConfig):
    """``pmg-app``: serves a web app.

    Attributes:
        device: device of the models; auto: a GPU if available.
        data: users and pictures to choose from.
        scenario: in place of the pipeline's, e.g. one that reads conversations; None: the pipeline's.
        pipeline: folder of ``pmg-export``, or of an exported ``pmg-train`` run.
        host: address of the server.
        port: of the server; 0: a free one.
        waiting: number of jobs that wait.
        users: number of users to choose from.
        pictures: number of pictures to choose from, beside those of the users.
        preference_weights: preference weights of the candidates.
    """

    device: str = "auto"
    data: Any = None
    scenario: Any = None
    pipeline: str = "assets/pipeline"
    host: str = "127.0.0.1"
    port: int = ranged(7860, Annotated[int, Ge(0), Le(65535)])
    waiting: int = ranged(8, Count)
    users: int = ranged(8, Count)
    pictures: int = ranged(48, CountOrZero)
    preference_weights: Any = ranged(None, list[NotNegative])


SCHEMAS: dict[str, type[RunConfig]] = {
    "prepare": PrepareConfig,
    "pretrain": PretrainConfig,
    "keywords": KeywordsConfig,
    "train": TrainConfig,
    "generate": GenerateConfig,
    "evaluate": EvaluateConfig,
    "study": StudyConfig,
    "export": ExportConfig,
    "estimate": EstimateConfig,
    "survey": SurveyConfig,
    "app": AppConfig,
}
