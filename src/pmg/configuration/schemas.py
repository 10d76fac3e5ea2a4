"""What each command's config holds at the top: typed, so that an unknown key is refused there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from pmg.configuration.ranges import Count, CountOrZero, NotNegative, Seed, Share


def ranged(default: Any, values: Any = None, **inner: Any) -> Any:
    """Returns a dataclass's field with the range of its values, which OmegaConf's types can't hold.

    Args:
        default: value.
        values: the type of its values, e.g. ``Count | None``.
        **inner: types of the values inside, by name, where the field is a group without a ``_target_``.
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
    """What every command knows. Contents of groups are open; `check_targets` catches their typos.

    Attributes:
        name: name of the run; part of its folder.
        seed: seed of every random number generator; null leaves them unseeded.
        run_dir: the run's folder; name an old one to go on in it.
        paths: where assets, outputs and cached results live.
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
        models_dir: holds the earlier stages' models that this one starts from, in the layout of the assets.
        into: where the trained model is put besides the run's folder: ``assets``, or a folder of that layout.
        full_steps: steps of the whole stage; a shorter training is not put into the assets.
    """

    models_dir: str | None = None
    into: str | None = None
    full_steps: int = ranged(0, Count)
    dtype: str = "auto"
    stage: Any = None
    card: Any = None
    picture: Any = None
    data: Any = None
    text_encoder: Any = None
    trainer: Any = None
    callbacks: Any = None
    logger: Any = None


@dataclass
class ReadingConfig(RunConfig):
    """What every command needs that reads histories; the scorer is there for captioners and encoders that look.

    Attributes:
        device: where frozen models stand; auto: on a GPU where there is one.
        dtype: floating point type of the language model and of matrix products: auto, bfloat16 or float32.
        keep_contexts: whether read histories stay in the cache, and encoded keywords in memory; false: computed when
            needed, for very many users.
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
    """``pmg-keywords``: reads real users' histories and measures what their keywords foresee.

    Attributes:
        split: whose keywords.
        users: so many of them; null: all.
        attribute: of the scenario; its options are the vocabulary that is compared.
        history_items: so many likes are read.
        later_items: users who liked fewer things later are left out.
        results_dir: where results and keywords go.
    """

    split: str = "test"
    users: int | None = ranged(None, Count | None)
    attribute: str = ""
    history_items: int = ranged(12, Count)
    later_items: int = ranged(5, Count)
    results_dir: str | None = None


@dataclass
class Shard:
    """A part of a command's work.

    Attributes:
        index: which one, from 0; null: all of them, in processes of this machine, and then merged.
        count: of the parts.
    """

    index: int | None = ranged(None, CountOrZero | None)
    count: int = ranged(1, Count)


@dataclass
class ExamplesConfig(ReadingConfig):
    """What training and generation need: users of each split, with their targets and histories.

    Attributes:
        compile: whether torch compiles the frozen models first (``torch.compile``), which pays in long runs.
        split_sizes: how many users of each split are used.
        targets: how many targets of each of those users.
        history_items: how many of their latest behaviours are known; null: all.
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
        unseen: tastes that training and validation users don't have.
        init_from: folder of a ``pmg-train`` run whose weights the training starts from.
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
        train_run: folder of the ``pmg-train`` run whose encoder generates.
        image_prompt_run: folder of a ``pmg-train encoder=image_prompt`` run, for the method of that name.
        sheet_users: users in the pictures that loggers get.
        shard: which part of the images this process makes.
    """

    method: Any = None
    balance: Any = ranged(None, alpha=Share)
    sampling: Any = ranged(None, steps=Count, guidance=NotNegative, batch_size=Count)
    inversion: Any = None
    train_run: str | None = None
    image_prompt_run: str | None = None
    sheet_users: int = ranged(20, Count)
    shard: Shard = field(default_factory=Shard)


@dataclass
class EvaluateConfig(RunConfig):
    """``pmg-evaluate``: judges generated images; data, users and models are those of the generation.

    Attributes:
        device: where frozen models stand; auto: on a GPU where there is one.
        generate_run: folder of the ``pmg-generate`` run that is judged.
        results_dir: where results, and what belongs to them, go.
        sheet_users: users on the contact sheet.
        shard: which part of the images this process judges.
    """

    device: str = "auto"
    judge: Any = None
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
    """``pmg-export``: makes a pipeline folder of a training run.

    Attributes:
        train_run: folder of the ``pmg-train`` run.
        folder: of the pipeline.
        copy_frozen: whether the frozen models' weights are copied into it; else it names where they come from.
        dtype: of sampling: auto, bfloat16 or float32.
        half: whether the trained weights are written in float16.
        results: ``results.json`` of ``pmg-evaluate``, for the model card; null: none.
        title: of the model card.
        license: of the trained weights, as the hub names licences.
        push_to: id of a repository on the hub that it is uploaded to; null: none.
        private: whether a repository that is made for it is private.
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
    balance: Any = ranged(None, alpha=Share)
    sampling: Any = ranged(None, steps=Count, guidance=NotNegative, batch_size=Count)


@dataclass
class EstimateConfig(TrainConfig):
    """``pmg-estimate``: forecasts the memory of a ``pmg-train`` with the same overrides.

    Attributes:
        history_tokens: tokens of a history.
        profiles_per_user: histories of each user that are read.
    """

    history_tokens: int = ranged(250, Count)
    profiles_per_user: int = ranged(1, Count)


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
}
