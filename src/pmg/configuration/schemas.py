"""Schemas of the commands' configs, by which Hydra refuses unknown top-level keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt

from pmg.configuration.ranges import Count, CountOrZero, Fraction, NotNegative, Seed


def ranged(default: Any, values: Any = None, **inner: Any) -> Any:
    """Returns a dataclass field with a range of values, which OmegaConf's types don't support.

    Args:
        default: value.
        values: the type of its values, e.g. ``Count | None``.
        **inner: types of the values of a group without a ``_target_``, by name.
    """
    return field(default=default, metadata={"": values, **inner})


def schema_ranges(schema: Any) -> dict[str, Any]:
    """Returns the type of each value that a schema limits, by dotted key."""
    found: dict[str, Any] = {}
    for part in fields(schema) if is_dataclass(schema) else ():
        ranges: Mapping[str, Any] = part.metadata
        found |= {f"{part.name}.{name}".rstrip("."): values for name, values in ranges.items() if values is not None}
        inner = schema_ranges(part.default_factory)
        found |= {f"{part.name}.{name}": values for name, values in inner.items()}
    return found


@dataclass
class RunConfig:
    """Keys of every command. Groups have no schema; `check_targets` checks their keys.

    Attributes:
        name: name of the run; part of its folder.
        seed: seed of every random number generator; null leaves them unseeded.
        run_dir: the run folder; the folder of an interrupted run resumes it.
        paths: folders of assets, outputs and cached results.
        plugins: modules of your own whose classes the config may build, see docs/extending.md.
    """

    name: str = "default"
    seed: int | None = ranged(0, Seed | None)
    run_dir: str | None = None
    paths: Any = None
    plugins: list[str] = field(default_factory=list)


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
        models_dir: folder of the earlier stages' models, in the layout of the assets.
        into: second destination of the trained model: ``assets``, or a folder of that layout; null: none.
        full_steps: steps of the whole stage; the model of a shorter training is not copied to the assets.
    """

    models_dir: str | None = None
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
        split: split of the users.
        users: number of users; null: all.
        attribute: attribute of the scenario whose options are the vocabulary of the comparison.
        history_items: number of likes in the history.
        later_items: minimum number of later likes; users with fewer are left out.
        results_dir: folder of results and keywords.
    """

    split: str = "test"
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
        unseen: tastes that are removed from training and validation users.
        init_from: folder of a ``pmg-train`` run with the initial weights.
    """

    objective: Any = ranged(None, users_per_step=Count)
    optimizer: Any = None
    lr_scheduler: Any = None
    trainer: Any = None
    callbacks: Any = None
    unseen: Any = None
    init_from: str | None = None


@dataclass
class GenerateConfig(ExamplesConfig):
    """``pmg-generate``: generates personalised images.

    Attributes:
        train_run: folder of the ``pmg-train`` run that ``preference.soft`` takes its encoder from.
        pipeline: folder of ``pmg-export``, in place of a training run.
        sheet_users: number of users in the images for loggers.
        shard: the images that this process generates.
    """

    method: Any = None
    balance: Any = ranged(None, alpha=Fraction)
    sampling: Any = ranged(None, steps=Count, guidance=NotNegative, batch_size=Count)
    preference: Any = None
    train_run: str | None = None
    pipeline: str | None = None
    sheet_users: int = ranged(20, Count)
    shard: Shard = field(default_factory=Shard)


@dataclass
class ComparisonConfig:
    """The arms that all others are compared with.

    Attributes:
        baseline: the arm to improve on.
        oracle: the arm with the true taste.
        proposed: the method under study.
        gap_metric: name of the metric for the share of the gap from baseline to oracle that an arm closes.
    """

    baseline: str = "none"
    oracle: str = "oracle"
    proposed: str = "pmg"
    gap_metric: str = "lpips_truth"


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
    sampling: Any = ranged(None, steps=Count, guidance=NotNegative, batch_size=Count)


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
class SurveyDesignConfig:
    """Size of a survey.

    Attributes:
        examples: number of examples that are shown; the last is that of the practice task.
        raters: different task lists; further raters start again with the first.
        pairs: comparisons of each rater.
        ratings: rated images of each rater.
        checks: attention checks of each rater.
    """

    examples: int = ranged(25, Count)
    raters: int = ranged(30, Count)
    pairs: int = ranged(24, Count)
    ratings: int = ranged(8, CountOrZero)
    checks: int = ranged(5, CountOrZero)


@dataclass
class SurveyTextsConfig:
    """Texts of a survey's page, see `pmg.survey.materials.Texts`."""

    title: str = ""
    consent: list[str] = field(default_factory=list)
    question: str = ""
    accuracy: str = ""
    preference: str = ""


@dataclass
class SampleSizeConfig:
    """The effect that a survey should find.

    Attributes:
        win_rate: share of comparisons that the better of two methods wins; null: no sample size is computed.
        power: probability that the interval excludes 0.5.
        deviation: standard deviation of utilities between raters, and between items.
    """

    win_rate: float | None = ranged(None, Annotated[float, Gt(0.5), Lt(1)] | None)
    power: float = ranged(0.8, Annotated[float, Gt(0), Lt(1)])
    deviation: float = ranged(0.4, NotNegative)


@dataclass
class SurveyConfig(RunConfig):
    """``pmg-survey``: makes, serves or analyses a survey; one of `generate_run`, `serve`, `analyse`, … names the work.

    Attributes:
        generate_run: folder of the ``pmg-generate`` run that a survey is made of.
        methods: methods that are compared; null: all of the run.
        design: size of the survey.
        texts: texts of the page.
        sample_size: the effect that a survey should find.
        serve: folder of the survey that is served.
        host: address of the server.
        port: of the server; 0: a free one.
        analyse: files or folders of answers.
        survey: folder of the survey that `analyse` belongs to; null: the folder of the first answers.
        evaluation: folder of results of ``pmg-evaluate``, whose metrics are compared with the raters; null: none.
        comparison: the arms that all others are compared with.
        allowed_failures: raters who fail more attention checks are left out.
        export: code of the rater whose answers are written to the run folder.
        delete: code of the rater whose answers are deleted.
        results_dir: folder of results and tables.
    """

    generate_run: str | None = None
    methods: list[str] | None = None
    design: SurveyDesignConfig = field(default_factory=SurveyDesignConfig)
    texts: SurveyTextsConfig = field(default_factory=SurveyTextsConfig)
    sample_size: SampleSizeConfig = field(default_factory=SampleSizeConfig)
    serve: str | None = None
    host: str = "127.0.0.1"
    port: int = ranged(8000, Annotated[int, Ge(0), Le(65535)])
    analyse: Any = None
    survey: str | None = None
    evaluation: str | None = None
    comparison: ComparisonConfig = field(default_factory=ComparisonConfig)
    allowed_failures: int = ranged(1, CountOrZero)
    export: str | None = None
    delete: str | None = None
    results_dir: str | None = None


@dataclass
class AppConfig(RunConfig):
    """``pmg-app``: serves a web app.

    Attributes:
        device: device of the models; auto: a GPU if available.
        data: users and pictures to choose from.
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
