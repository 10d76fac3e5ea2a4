"""Runs as one tidy table, as means with intervals of the groups that differ in more than the seed, and in a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from pmg.evaluation.metric_interface import MetricInfo
from pmg.evaluation.result_tables import ResultTables
from pmg.evaluation.statistics import intervals, mean_of_runs
from pmg.evaluation.table_rendering import NOTHING, Cell, Table
from pmg.reporting.artifacts import Artifacts
from pmg.reporting.runs import RunFolder, progress
from pmg.reporting.variants import Factors, order, show

JUDGED, TRAINED = "Judged images", "Training"  # titles
MEASURED = ("method", "control", "metric", "value", "standard_error", "n")
TRAINING = "Intervals of training metrics, and of metrics of whole sets: Student's, over runs; a single run has none."

Arm = Mapping[str, Mapping[str, float]]  # mean, low, high, n (users), runs by metric
MethodValues = Mapping[str, Arm]  # by method
Row = tuple[tuple[str, ...], str, Arm]  # values of the factors, a method, its metrics


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed."""

    values: tuple[str, ...]  # of the chosen factors, as they are shown
    runs: tuple[int, ...]  # their numbers
    methods: MethodValues  # metrics of evaluations by method, intervals over users
    scalars: Mapping[str, Mapping[str, float]]  # metrics of trainings by name, intervals over runs


def tidy(runs: Sequence[RunFolder], factors: Factors, artifacts: Artifacts) -> pd.DataFrame:
    """Returns one row a run, method, control and metric; a run without any has one row with the reason."""
    rows = []
    for number, run in enumerate(runs):
        known = {
            "run": run.name, "command": run.command, "status": run.status, "seed": run.seed,
            **{key: run.config.get(key) for key in factors.varied},
        }  # fmt: skip
        origin = {**run.cost, "revision": run.revision, "problem": problem_of(run, artifacts.problems.get(number))}
        scalars = {} if run.problem else run.scalars
        own = [dict(zip(MEASURED, ("", "", name, value, None, 1), strict=True)) for name, value in scalars.items()]
        measured = own + _judged_rows(artifacts, number) + [
            dict(zip(MEASURED, (method, "own", name, values["value"], values.get("std"), values["n"]), strict=True))
            for name, found in artifacts.sets.get(number, {}).items()
            for method, values in found.items()
        ]  # fmt: skip
        rows += [{**known, **values, **origin} for values in measured or [dict.fromkeys(MEASURED)]]
    frame = pd.DataFrame(rows)
    return frame.assign(**{key: _plain(frame[key]) for key in factors.varied}).astype({"seed": "Int64"})


def problem_of(run: RunFolder, unread: str | None) -> str:
    """Returns why a run counts in no mean, or not with all of its results; empty where there is no problem."""
    return "; ".join(filter(None, (run.problem, unread)))


def _plain(column: pd.Series) -> pd.Series:
    """Returns values of one type as they are, others as texts: a column of a table has one type."""
    known = column[column.notna()]
    kinds = {type(value) for value in known}
    if kinds <= {int, float} or kinds <= {bool} or kinds <= {str}:
        return column
    return known.map(show).reindex(column.index)


def _judged_rows(artifacts: Artifacts, number: int) -> list[dict[str, Any]]:
    if number not in artifacts.rows:
        return []
    by_method = user_table(artifacts.rows[number], artifacts.metrics, "method", "control").groupby(
        level=["method", "control"], sort=False
    )
    mean, error, count = by_method.mean(), by_method.sem(), by_method.count()
    return [
        dict(zip(MEASURED, (*at, name, mean.at[at, name], error.at[at, name], count.at[at, name]), strict=True))
        for at in mean.index
        for name in mean.columns
        if count.at[at, name]
    ]


def user_table(rows: pd.DataFrame, metrics: Sequence[MetricInfo], *keys: str) -> pd.DataFrame:
    """Returns every user's means of all metrics, by `keys` and ``user``."""
    names = [metric.name for metric in metrics if metric.name in rows]
    return rows.astype(dict.fromkeys(names, float)).groupby([*keys, "user"])[names].mean()


def group(runs: Sequence[RunFolder], factors: Factors, artifacts: Artifacts) -> list[Group]:
    """Returns groups of completed runs in the order of their values."""
    members: dict[tuple[str, ...], list[int]] = {}
    for number, run in enumerate(runs):
        if not run.problem:
            members.setdefault(factors.values(run), []).append(number)
    return [
        Group(values, tuple(members[values]), pool(artifacts, members[values]), scalars(runs, members[values]))
        for values in progress(sorted(members, key=order), "Averaging")
    ]


def pool(artifacts: Artifacts, numbers: Sequence[int]) -> dict[str, dict[str, dict[str, float]]]:
    """Returns means over users of all these runs, own preference alone, by method and metric, with the count of runs.

    Metrics of whole sets have a single number a run, and their mean an interval over runs.
    """
    frames = [artifacts.rows[number].assign(run=number) for number in numbers if number in artifacts.rows]
    if not frames:
        return {}
    rows = pd.concat(frames, ignore_index=True)
    own = rows[rows["control"] == "own"]
    means, counts = user_table(own, artifacts.metrics, "method"), own.groupby("method")["run"].nunique()
    return {
        method: {name: asdict(found) | {"runs": int(counts[method])} for name, found in measured.items()}
        | _set_means(artifacts, numbers, method)
        for method in artifacts.comparison.order(own["method"].unique())
        if (measured := intervals(means.loc[method]))
    }


def _set_means(artifacts: Artifacts, numbers: Sequence[int], method: str) -> dict[str, dict[str, float]]:
    found: dict[str, list[float]] = {}
    for number in numbers:
        for name, by_method in artifacts.sets.get(number, {}).items():
            if method in by_method:
                found.setdefault(name, []).append(by_method[method]["value"])
    return {name: _over_runs(values) for name, values in found.items()}


def _over_runs(values: Sequence[float]) -> dict[str, float]:
    return asdict(mean_of_runs(np.array(values))) | {"runs": len(values)}


def scalars(runs: Sequence[RunFolder], numbers: Sequence[int]) -> dict[str, dict[str, float]]:
    """Returns means over these runs of what training measured on held-out data, or else on training data."""
    names = dict.fromkeys(name for number in numbers for name in runs[number].scalars)
    held_out = [name for name in names if name.startswith("val/")]
    kept = held_out or [name for name in names if name.startswith("train/")]
    columns = {name: [runs[n].scalars[name] for n in numbers if name in runs[n].scalars] for name in kept}
    return {name: _over_runs(values) for name, values in columns.items()}


def scalar_metric(name: str) -> MetricInfo:
    """Returns the description of a metric of training: accuracies rise, losses fall."""
    return MetricInfo(name, name, higher_is_better=name.endswith("accuracy"), digits=5)


def drop_repeats(columns: Mapping[str, Sequence[Any]]) -> list[str]:
    """Returns names of metrics without totals that equal their only term; `columns` holds what can be compared."""

    def repeated(total: str) -> bool:
        """Returns whether a total equals its only term."""
        terms = [name for name in columns if name != total and name.split("/")[0] == total.split("/")[0]]
        return len(terms) == 1 and columns[total] == columns[terms[0]]

    return [name for name in columns if not (name.endswith("/total") and repeated(name))]


def effects(
    key: int, groups: Sequence[Group], runs: Sequence[RunFolder], artifacts: Artifacts
) -> dict[str, tuple[MethodValues, Mapping[str, Mapping[str, float]]]]:
    """Returns means of evaluations and of trainings, by the values of factor number `key`, over all other factors."""
    members: dict[str, list[int]] = {}
    for each in groups:
        members.setdefault(each.values[key], []).extend(each.runs)
    same = {each.runs: (each.methods, each.scalars) for each in groups}
    return {
        value: same.get(tuple(members[value])) or (pool(artifacts, members[value]), scalars(runs, members[value]))
        for value in sorted(members, key=lambda value: order([value]))
    }


def summary_tables(groups: Sequence[Group], factors: Factors, artifacts: Artifacts) -> list[Table]:
    """Returns means of every group: metrics of evaluations by method, the best on top, and metrics of trainings."""
    judged = _judged(groups, artifacts)
    trained = [group for group in groups if group.scalars]
    users = max((values["n"] for *_, measured in judged for values in measured.values()), default=0)
    tables = (
        ResultTables(artifacts.metrics, artifacts.comparison).means(
            f"{JUDGED} (n = {users} users)", ("method", *factors.chosen, "runs"),
            [(method, *values, _count(measured)) for values, method, measured in judged],
            [measured for *_, measured in judged],
        ),
        ResultTables(trained_metrics(trained), artifacts.comparison).means(
            TRAINED, ("group", *factors.chosen, "runs"),
            [(f"group {number}", *group.values, _count(group.scalars)) for number, group in enumerate(trained, 1)],
            [group.scalars for group in trained],
        ),
    )  # fmt: skip
    return [table for table in tables if table.rows]


def _judged(groups: Sequence[Group], artifacts: Artifacts) -> list[Row]:
    """Returns the rows of the summary, the best by the first metric on top, and below what doesn't compete.

    A method whose metrics are the same in all of several groups, as those of references are, has one row.
    """
    found: dict[str, list[Row]] = {}
    judged = [each for each in groups if each.methods]
    for each in judged:
        for method, measured in each.methods.items():
            found.setdefault(method, []).append((each.values, method, measured))
    rows: list[Row] = []
    for own in found.values():
        same = len(own) == len(judged) > 1 and all(measured == own[0][2] for *_, measured in own)
        rows += [(("all",) * len(own[0][0]), *own[0][1:])] if same else own
    first = next(iter(artifacts.metrics), MetricInfo("", ""))

    def place(row: Row) -> tuple[bool, float]:
        """Returns what rows are sorted by."""
        sign = -1 if first.higher_is_better else 1
        value = row[2].get(first.name, {"mean": sign * np.inf})["mean"]
        return not artifacts.comparison.competes(row[1]), sign * value

    return sorted(rows, key=place)


def _count(values: Mapping[str, Mapping[str, float]]) -> str:
    return str(max(value["runs"] for value in values.values()))


def trained_metrics(groups: Sequence[Group]) -> list[MetricInfo]:
    """Returns descriptions of the metrics of trainings of any group."""
    names = dict.fromkeys(name for group in groups for name in group.scalars)
    columns = {name: [group.scalars[name]["mean"] for group in groups if name in group.scalars] for name in names}
    return [scalar_metric(name) for name in drop_repeats(columns)]


def footnote(tables: Sequence[Table], artifacts: Artifacts) -> str:
    """Returns how to read the summary."""
    titles = [table.title for table in tables]
    judged = ResultTables(artifacts.metrics, artifacts.comparison).footnote
    notes = {judged: any(title.startswith(JUDGED) for title in titles), TRAINING: TRAINED in titles}
    return " ".join(note for note, needed in notes.items() if needed)


def runs_table(runs: Sequence[RunFolder], factors: Factors) -> Table:
    """Returns one row a run with its factors, cost and revision."""
    header = ("run", "command", "status", *factors.chosen, "seed", "seconds", "peak MiB", "revision")

    def row(run: RunFolder) -> tuple[Cell, ...]:
        """Returns the cells of a run."""
        seconds, memory = (run.cost.get(name) for name in ("seconds", "ram_mib"))
        seed = Cell(NOTHING if run.seed is None else str(run.seed), number=run.seed)
        texts = (run.name, run.command, run.status, *factors.values(run))
        return (*map(Cell, texts), seed, _rounded(seconds), _rounded(memory), Cell(run.revision[:10] or NOTHING))

    return Table(f"All runs ({len(runs)})", header, tuple(map(row, runs)), names=3 + len(factors.chosen))


def _rounded(value: float | None) -> Cell:
    return Cell(NOTHING) if value is None else Cell(f"{value:,.0f}", number=value)


def problems_table(runs: Sequence[RunFolder], artifacts: Artifacts) -> Table:
    """Returns the runs that failed, did not finish, or have files that can't be read."""
    rows = tuple(
        tuple(map(Cell, (run.name, run.command or NOTHING, run.status, reason)))
        for number, run in enumerate(runs)
        if (reason := problem_of(run, artifacts.problems.get(number)))
    )
    return Table("Runs that count in no mean, or in part", ("run", "command", "status", "reason"), rows, names=4)
