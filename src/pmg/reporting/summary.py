"""Runs as one tidy table, and as means with intervals of the groups that differ in more than the seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from pmg.evaluation.report import methods_in_order
from pmg.evaluation.statistics import intervals, mean_of_runs
from pmg.evaluation.tables import METRICS, Metric
from pmg.reporting.artifacts import Evidence
from pmg.reporting.runs import RunFolder, progress
from pmg.reporting.variants import Factors, order, show

Arms = Mapping[str, Mapping[str, Mapping[str, float]]]  # mean, low, high, n (users), runs by method and metric


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
        measured = [*_scalar_rows(run), *_judged_rows(evidence.rows.get(number)), *_set_rows(evidence, number)]
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
    if rows is None:
        return []
    by_arm = user_table(rows, "method", "control").groupby(level=["method", "control"], sort=False)
    mean, error, count = by_arm.mean(), by_arm.sem(), by_arm.count()
    return [
        dict(zip(MEASURED, (*arm, name, mean.at[arm, name], error.at[arm, name], count.at[arm, name]), strict=True))
        for arm in mean.index
        for name in mean.columns
        if count.at[arm, name]
    ]


def _set_rows(evidence: Evidence, number: int) -> list[dict[str, Any]]:
    return [
        dict(zip(MEASURED, (method, "own", name, values["value"], values.get("std"), values["n"]), strict=True))
        for name, found in evidence.sets.get(number, {}).items()
        for method, values in found.items()
    ]


def user_table(rows: pd.DataFrame, *keys: str) -> pd.DataFrame:
    """Every user's means of all metrics, by `keys` and ``user``."""
    names = [metric.name for metric in METRICS if metric.name in rows]
    return rows.astype(dict.fromkeys(names, float)).groupby([*keys, "user"])[names].mean()


def group(runs: Sequence[RunFolder], factors: Factors, evidence: Evidence) -> list[Group]:
    """Groups of completed runs in the order of their values."""
    members: dict[tuple[str, ...], list[int]] = {}
    for number, run in enumerate(runs):
        if not run.problem:
            members.setdefault(factors.values(run), []).append(number)
    return [
        Group(values, tuple(members[values]), pool(evidence, members[values]), scalars(runs, members[values]))
        for values in progress(sorted(members, key=order), "Averaging")
    ]


def pool(evidence: Evidence, numbers: Sequence[int]) -> dict[str, dict[str, dict[str, float]]]:
    """Means over users of all these runs, own preference alone, by method and metric; with the number of ``runs``.

    Metrics of whole sets have a single number a run, and their mean an interval over runs.
    """
    frames = [evidence.rows[number].assign(run=number) for number in numbers if number in evidence.rows]
    if not frames:
        return {}
    rows = pd.concat(frames, ignore_index=True)
    own = rows[rows["control"] == "own"]
    means, counts = user_table(own, "method"), own.groupby("method")["run"].nunique()
    return {
        method: {name: asdict(found) | {"runs": int(counts[method])} for name, found in measured.items()}
        | _set_means(evidence, numbers, method)
        for method in methods_in_order(own)
        if (measured := intervals(means.loc[method]))
    }


def _set_means(evidence: Evidence, numbers: Sequence[int], method: str) -> dict[str, dict[str, float]]:
    found: dict[str, list[float]] = {}
    for number in numbers:
        for name, by_method in evidence.sets.get(number, {}).items():
            if method in by_method:
                found.setdefault(name, []).append(by_method[method]["value"])
    return {name: _over_runs(values) for name, values in found.items()}


def _over_runs(values: Sequence[float]) -> dict[str, float]:
    return asdict(mean_of_runs(np.array(values))) | {"runs": len(values)}


def scalars(runs: Sequence[RunFolder], numbers: Sequence[int]) -> dict[str, dict[str, float]]:
    """Means over these runs of what training measured on held-out data, or else on training data."""
    names = dict.fromkeys(name for number in numbers for name in runs[number].scalars)
    held_out = [name for name in names if name.startswith("val/")]
    kept = held_out or [name for name in names if name.startswith("train/")]
    columns = {name: [runs[n].scalars[name] for n in numbers if name in runs[n].scalars] for name in kept}
    return {name: _over_runs(values) for name, values in columns.items()}


def scalar_metric(name: str) -> Metric:
    """How a metric of training is read: accuracies rise, losses fall."""
    return Metric(name, name, higher=name.endswith("accuracy"), digits=5)


def drop_repeats(columns: Mapping[str, Sequence[Any]]) -> list[str]:
    """Names of metrics without totals that equal their only term; `columns` holds what can be compared."""

    def repeated(total: str) -> bool:
        terms = [name for name in columns if name != total and name.split("/")[0] == total.split("/")[0]]
        return len(terms) == 1 and columns[total] == columns[terms[0]]

    return [name for name in columns if not (name.endswith("/total") and repeated(name))]


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
