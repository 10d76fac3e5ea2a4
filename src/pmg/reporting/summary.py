"""Runs as one tidy table, and as means with intervals of the groups that differ in more than the seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from rich.progress import track

from pmg.evaluation.report import methods_in_order
from pmg.evaluation.statistics import interval, mean_of_runs, user_means
from pmg.evaluation.tables import METRICS, Metric
from pmg.reporting.evidence import Evidence
from pmg.reporting.factors import Factors, order, show
from pmg.reporting.runs import RunFolder

Arms = Mapping[str, Mapping[str, Mapping[str, float]]]  # mean, low, high, n by method and metric


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed.

    Attributes:
        values: of the chosen factors, as they are shown.
        runs: their numbers.
        arms: judged metrics by method, intervals over users.
        scalars: metrics of trainings by name, intervals over runs.
    """

    values: tuple[str, ...]
    runs: tuple[int, ...]
    arms: Arms
    scalars: Mapping[str, Mapping[str, float]]


def tidy(runs: Sequence[RunFolder], factors: Factors, evidence: Evidence) -> pd.DataFrame:
    """One row a run, method, control and metric; a run without any has one row that says why."""
    rows = []
    for number, run in enumerate(runs):
        known = {
            "run": run.name, "command": run.command, "status": run.status, "seed": run.seed,
            **{key: run.config.get(key) for key in factors.varied},
        }  # fmt: skip
        origin = {**run.cost, "revision": run.revision, "problem": problem_of(run, evidence.problems.get(number))}
        measured = [*_scalar_rows(run), *_judged_rows(evidence.rows.get(number))]
        rows += [{**known, **values, **origin} for values in measured or [dict.fromkeys(MEASURED)]]
    frame = pd.DataFrame(rows)
    return frame.assign(**{key: _plain(frame[key]) for key in factors.varied}).astype({"seed": "Int64"})


MEASURED = ("method", "control", "metric", "value", "standard_error", "n")


def problem_of(run: RunFolder, unread: str | None) -> str:
    """Why a run counts in no mean, or not with all that it made; empty where all is well."""
    return "; ".join(filter(None, (run.problem, unread)))


def _plain(column: pd.Series) -> pd.Series:
    """Values of one type as they are, others as texts: a column of a table has one type."""
    kinds = {type(value) for value in column if value is not None}
    if kinds <= {int, float} or kinds <= {bool} or kinds <= {str}:
        return column
    return column.map(lambda value: None if value is None else show(value))


def _scalar_rows(run: RunFolder) -> list[dict[str, Any]]:
    if run.problem:
        return []
    return [dict(zip(MEASURED, ("", "", name, value, None, 1), strict=True)) for name, value in run.scalars.items()]


def _judged_rows(rows: pd.DataFrame | None) -> list[dict[str, Any]]:
    found = []
    for (method, control), part in rows.groupby(["method", "control"], sort=False) if rows is not None else ():
        for metric, values, users in _measured(part):
            means = user_means(values, users)
            error = means.std(ddof=1) / np.sqrt(len(means)) if len(means) > 1 else None
            found.append(dict(zip(MEASURED, (method, control, metric, means.mean(), error, len(means)), strict=True)))
    return found


def _measured(rows: pd.DataFrame) -> Iterable[tuple[str, np.ndarray, np.ndarray]]:
    """Name, values and users of each metric that the rows have."""
    for metric in METRICS:
        part = rows[rows[metric.name].notna()] if metric.name in rows else ()
        if len(part):
            yield metric.name, part[metric.name].to_numpy(float), part["user"].to_numpy()


def group(runs: Sequence[RunFolder], factors: Factors, evidence: Evidence) -> list[Group]:
    """Groups of completed runs in the order of their values."""
    members: dict[tuple[str, ...], list[int]] = {}
    for number, run in enumerate(runs):
        if not run.problem:
            members.setdefault(factors.values(run), []).append(number)
    return [
        Group(values, tuple(members[values]), pool(evidence, members[values]), scalars(runs, members[values]))
        for values in track(sorted(members, key=order), "Averaging", transient=True)
    ]


def pool(evidence: Evidence, numbers: Sequence[int]) -> dict[str, dict[str, dict[str, float]]]:
    """Means over users of all these runs, own preference alone, by method and metric."""
    frames = [evidence.rows[number] for number in numbers if number in evidence.rows]
    if not frames:
        return {}
    rows = pd.concat(frames, ignore_index=True)
    own = rows[rows["control"] == "own"]
    return {
        method: {name: asdict(interval(*found)) for name, *found in _measured(own[own["method"] == method])}
        for method in methods_in_order(own)
    }


def scalars(runs: Sequence[RunFolder], numbers: Sequence[int]) -> dict[str, dict[str, float]]:
    """Means over these runs of what training measured on held-out data, or else on training data."""
    names = dict.fromkeys(name for number in numbers for name in runs[number].scalars)
    held_out = [name for name in names if name.startswith("val/")]
    kept = held_out or [name for name in names if name.startswith("train/")]
    columns = {name: [runs[n].scalars[name] for n in numbers if name in runs[n].scalars] for name in kept}
    return {name: asdict(mean_of_runs(np.array(values))) for name, values in columns.items()}


def scalar_metric(name: str) -> Metric:
    """How a metric of training is read: accuracies rise, losses fall."""
    return Metric(name, name, higher=name.endswith("accuracy"))


def effects(
    key: int, groups: Sequence[Group], runs: Sequence[RunFolder], evidence: Evidence
) -> dict[str, tuple[Arms, Mapping[str, Mapping[str, float]]]]:
    """Judged means and those of training, by the values of factor number `key`, over all that else varies."""
    members: dict[str, list[int]] = {}
    for each in groups:
        members.setdefault(each.values[key], []).extend(each.runs)
    same = {each.runs: (each.arms, each.scalars) for each in groups}
    return {
        value: same.get(tuple(members[value])) or (pool(evidence, members[value]), scalars(runs, members[value]))
        for value in sorted(members, key=lambda value: order([value]))
    }
