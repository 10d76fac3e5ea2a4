"""Studies: each ``experiments/NAME/study.yaml`` has the commands of a study's runs and the tables made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pmg.domain import PmgError

FOLDER = "experiments"
STUDY_FILE = "study.yaml"


@dataclass
class Command:
    """A shell command of a study, with ``$PMG_OUTPUTS`` for the folder of all runs; repeated, it resumes."""

    run: str = MISSING
    hours: float = MISSING  # of two processor cores
    toy: str | None = ""  # added at toy length; null: not run then
    left_out: str = ""  # why it isn't run where all studies are; empty: it is


@dataclass
class Pair:
    """Methods that are compared between two variants, same user, target and seed."""

    variants: list[str] = MISSING  # two labels
    methods: list[list[str]] = MISSING  # two methods each: of the first variant, and of the second


@dataclass
class UserGroups:
    """Users that have tables of their own: those of each value of a column, or whose value a pattern matches."""

    column: str = MISSING
    patterns: dict[str, str] = field(default_factory=dict)  # regular expressions by title


@dataclass
class StudyTable:
    """A table and a figure of a study's runs.

    Attributes:
        factors: what the runs vary: dotted key of the config by its name in tables; none: seeds alone.
        methods: rows of the table for each variant, which a table with factors names; without factors: all.
        base: the variant that all others are compared with in pairs; empty: the first.
        front: whether the figure is of accuracy against preference instead of metrics against the factor.
        by: users that have tables of their own.
        pairs: further comparisons.
        trains: whether each variant trains its own encoder: a table has how fast.
        generators: whether a table has the cost of each variant's generator.
        mismatched: whether a table has what each method gains from a user's own preference over another user's.
        readme: metrics of a short table in the project's README; none: it has none.
    """

    factors: dict[str, str] = field(default_factory=dict)
    methods: list[str] = field(default_factory=list)
    base: str = ""
    front: bool = False
    by: UserGroups | None = None
    pairs: list[Pair] = field(default_factory=list)
    trains: bool = False
    generators: bool = False
    mismatched: bool = False
    readme: list[str] = field(default_factory=list)


@dataclass
class Study:
    """What ``study.yaml`` holds.

    Attributes:
        question: in a sentence.
        trainings: names of trainings in ``record.yaml`` that its commands read.
        commands: what makes its runs, in order.
        tables: by name; the runs are in ``$PMG_OUTPUTS/studies/NAME``.
        results: of a single run, below ``$PMG_OUTPUTS``, which is copied.
        toy: overrides of all its commands at toy length.
    """

    question: str = MISSING
    trainings: list[str] = field(default_factory=list)
    commands: list[Command] = MISSING
    tables: dict[str, StudyTable] = field(default_factory=dict)
    results: str = ""
    toy: list[str] = field(default_factory=list)


def read_study(name: str, folder: Path = Path(FOLDER)) -> Study:
    """Returns the study of a name; PmgError if there is none, or its file has a wrong key or value."""
    studies = sorted(path.parent.name for path in folder.glob(f"*/{STUDY_FILE}"))
    if name not in studies:
        raise PmgError(f"unknown study: {name!r}. Name one of {', '.join(studies) or f'{folder}/*/{STUDY_FILE}'}.")
    return read_as(Study, folder / name / STUDY_FILE)


def read_as(kind: type[Any], path: Path) -> Any:
    """Returns a file's values as a dataclass; PmgError if one is missing, unknown or of another type."""
    try:
        found = OmegaConf.merge(OmegaConf.structured(kind), OmegaConf.create(path.read_text()))
        return OmegaConf.to_object(found)
    except (OmegaConfBaseException, yaml.YAMLError, OSError) as error:
        raise PmgError(f"{path}: {str(error).splitlines()[0]}. Correct the file.") from error


def table_folder(study: str, table: str, folder: Path = Path(FOLDER)) -> Path:
    """Returns the folder of a table's recorded results: the study's for its namesake, else one in it."""
    return folder / study if table == study else folder / study / table
