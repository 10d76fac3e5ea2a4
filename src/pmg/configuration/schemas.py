"""Schemas of the commands' configs, by which Hydra refuses unknown top-level keys; `conf` explains each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Literal

from omegaconf import MISSING

from pmg.configuration.keys import ComparisonConfig, RunConfig, key, run_key, schema_spec
from pmg.configuration.plugins import command_schemas
from pmg.configuration.ranges import Count, CountOrZero, Fraction, Repeats, Scale, Seed

# keys of Lightning's trainer that decide no result
TRAINER_RUN = """accelerator devices num_nodes strategy use_distributed_sampler deterministic detect_anomaly
    val_check_interval check_val_every_n_epoch num_sanity_val_steps log_every_n_steps enable_model_summary
    default_root_dir"""


@dataclass
class CountsConfig:
    """A number for each split; null: all."""

    train: int | None = key(None, Count | None)
    validation: int | None = key(None, Count | None)
    test: int | None = key(None, Count | None)


@dataclass
class PrepareConfig(RunConfig):
    """``pmg-prepare``: makes a data set (`data`) from its published files (`source`)."""

    data: Any = run_key()
    source: Any = key(run="folder downloads")
    seed: int | None = run_key(0, Seed | None)


@dataclass
class PretrainConfig(RunConfig):
    """``pmg-pretrain``: trains one embedded model (`stage`)."""

    into: str | None = run_key()
    full_steps: int = run_key(MISSING, Count)
    dtype: str = "auto"
    stage: Any = None
    optimizer: Any = None
    lr_scheduler: Any = None
    card: dict[str, Any] = run_key(MISSING)
    picture: Any = run_key()
    data: Any = None
    text_encoder: Any = run_key()  # the stage holds it
    trainer: Any = key(run=TRAINER_RUN)
    callbacks: Any = run_key(spec="seed early_stopping best_checkpoint", run="best_checkpoint.dirpath")
    logger: Any = run_key()


@dataclass
class ReadingConfig(RunConfig):
    """Keys of commands that read histories; the scorer is used by captioners and encoders with image input."""

    device: str = run_key("auto")  # of frozen models; auto: a GPU if available
    dtype: str = "auto"  # of the language model and of matrix products: auto, bfloat16 or float32
    data: Any = None
    scenario: Any = None
    captioner: Any = key(run="device")
    decoding: Any = None
    text_encoder: Any = None
    language_model: Any = key(run="cache_dir")
    scorer: Any = run_key()  # captioners and encoders that look hold it themselves
    logger: Any = run_key()
    keep_contexts: bool = run_key(True)  # in the cache, and keywords in memory; false: recomputed for each batch


@dataclass
class KeywordsConfig(ReadingConfig):
    """``pmg-keywords``: extracts keywords of real users and measures how well they predict later likes."""

    splits: list[str] = field(default_factory=list)
    users: int | None = key(None, Count | None)
    attribute: str = ""
    history_items: int = key(12, Count)
    later_items: int = key(5, Count)
    results_dir: str | None = run_key()


@dataclass
class Shard:
    """Number `index`, from 0, of `count` shards; null: all of them, in processes of this machine, and then merged."""

    index: int | None = key(None, CountOrZero | None)
    count: int = key(1, Count)


@dataclass
class ExamplesConfig(ReadingConfig):
    """Keys of training and generation: users of each split, with their targets and histories."""

    work_dir: str | None = run_key()
    preference_encoder: Any = None
    inputs: Any = None
    image_encoder: Any = run_key()  # as `scorer`
    generator: Any = None
    compile: bool = run_key(False)
    split_sizes: CountsConfig = key(CountsConfig)
    targets: CountsConfig = key(CountsConfig)
    history_items: CountsConfig = key(CountsConfig)


@dataclass
class TrainConfig(ExamplesConfig):
    """``pmg-train``: trains the preference encoder."""

    data: Any = key(run="users.test")
    split_sizes: CountsConfig = key(CountsConfig, run="test")
    targets: CountsConfig = key(CountsConfig, run="test")
    history_items: CountsConfig = key(CountsConfig, run="test")
    objective: Any = key(users_per_step=Count, image_encoder=Any)
    optimizer: Any = None
    lr_scheduler: Any = None
    trainer: Any = key(run=TRAINER_RUN)
    callbacks: Any = run_key(spec="seed early_stopping best_checkpoint", run="best_checkpoint.dirpath")
    init_from: str | None = None


@dataclass
class GenerateConfig(ExamplesConfig):
    """``pmg-generate``: generates personalised images."""

    method: Any = None
    balance: Any = key(None, alpha=Fraction, captioner=Any)
    sampling: Any = key(None, steps=Repeats | None, guidance=Scale, batch_size=Count, bfloat16=bool)
    preference: Any = None
    wishes: Any = run_key()  # preference sources hold it
    scorer: Any = None
    train_run: str | None = run_key()  # preference sources hold it
    pipeline: str | None = None
    split: str = key("test", Literal["train", "validation", "test"])
    mismatched: bool = True
    sheet_users: int = run_key(20, Count)
    shard: Shard = key(Shard, run="count")


@dataclass
class EvaluateConfig(RunConfig):
    """``pmg-evaluate``: computes metrics of generated images; data, users and models are those of the generation."""

    work_dir: str | None = run_key()
    device: str = run_key("auto")
    metrics: Any = None
    comparison: ComparisonConfig = key(ComparisonConfig)
    logger: Any = run_key()
    generate_run: str | None = None
    results_dir: str | None = run_key()
    sheet_users: int = key(20, Count)
    shard: Shard = key(Shard, run="count")


@dataclass
class StudyConfig(TrainConfig, GenerateConfig, EvaluateConfig):
    """``pmg-study``: trains, generates and evaluates."""


@dataclass
class ExportConfig(RunConfig):
    """``pmg-export``: exports a training run as a pipeline folder."""

    work_dir: str | None = run_key()
    train_run: str | None = None
    folder: str | None = run_key()
    copy_frozen: bool = False
    dtype: str = "auto"
    half: bool = False
    results: str | None = None
    title: str = ""
    license: str = "apache-2.0"
    push_to: str | None = run_key()
    private: bool = run_key(True)
    seed: int | None = run_key(0, Seed | None)
    method: Any = None
    balance: Any = key(None, alpha=Fraction, captioner=Any)
    sampling: Any = key(None, steps=Repeats | None, guidance=Scale, batch_size=Count, bfloat16=bool)


@dataclass
class EstimateConfig(TrainConfig):
    """``pmg-estimate``: forecasts the memory of a ``pmg-train`` with the same overrides."""

    history_tokens: int = key(250, Count)
    profiles_per_user: int = key(1, Count)


CORE = {
    "prepare": PrepareConfig, "pretrain": PretrainConfig, "keywords": KeywordsConfig, "train": TrainConfig,
    "generate": GenerateConfig, "evaluate": EvaluateConfig, "study": StudyConfig, "export": ExportConfig,
    "estimate": EstimateConfig,
}  # fmt: skip


@cache
def find_schemas() -> Mapping[str, type[RunConfig]]:
    """Returns the schema of each command by its name without ``pmg-``: those of the core, and of plug-ins."""
    return CORE | {name: entry.load() for name, entry in command_schemas().items()}


@cache
def find_spec(command: str) -> Mapping[str, bool]:
    """Returns whether keys decide a command's result, see `schema_spec`."""
    return schema_spec(find_schemas()[command])


@cache
def read_keys(command: str) -> frozenset[str]:
    """Returns the top-level keys that a command reads."""
    return frozenset(part.name for part in fields(find_schemas()[command]))


@cache
def all_keys() -> frozenset[str]:
    """Returns the top-level keys of all commands."""
    return frozenset().union(*map(read_keys, find_schemas()))


def read_sections(command: str) -> tuple[str, ...]:
    """Returns an experiment's sections that a command reads: its own, after those of the commands that it runs."""
    schema = find_schemas()[command]
    return tuple(name for name, other in CORE.items() if issubclass(schema, other))


SECTIONS = frozenset(CORE)
"""Names of an experiment's sections: the commands of the core."""
