"""The tables of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pmg.evaluation.metric_interface import MetricInfo
from pmg.evaluation.result_tables import ResultTables
from pmg.evaluation.table_rendering import NOTHING, Cell, Table
from pmg.reporting.artifacts import Artifacts
from pmg.reporting.runs import RunFolder
from pmg.reporting.summary import Group, drop_repeats, problem_of, scalar_metric
from pmg.reporting.variants import Factors

JUDGED, TRAINED = "Judged images", "Training"  # titles
TRAINING = "Intervals of training metrics, and of metrics of whole sets: Student's, over runs; a single run has none."


def summary_tables(groups: Sequence[Group], factors: Factors, artifacts: Artifacts) -> list[Table]:
    """Returns means of every group: metrics of evaluations by method, and metrics of trainings."""
    judged = [(group, method, group.arms[method]) for group in groups for method in group.arms]
    trained = [group for group in groups if group.scalars]
    users = max((values["n"] for *_, arm in judged for values in arm.values()), default=0)
    tables = (
        ResultTables(artifacts.metrics, artifacts.comparison).means(
            f"{JUDGED} (n = {users} users)", ("method", *factors.chosen, "runs"),
            [(method, *group.values, _count(arm)) for group, method, arm in judged],
            [arm for *_, arm in judged],
        ),
        ResultTables(trained_metrics(trained), artifacts.comparison).means(
            TRAINED, ("group", *factors.chosen, "runs"),
            [(f"group {number}", *group.values, _count(group.scalars)) for number, group in enumerate(trained, 1)],
            [group.scalars for group in trained],
        ),
    )  # fmt: skip
    return [table for table in tables if table.rows]


def _count(values: Mapping[str, Mapping[str, float]]) -> str:
    """Returns how many runs a row's means are of."""
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
    reasons = [problem_of(run, artifacts.problems.get(number)) for number, run in enumerate(runs)]
    rows = tuple(
        tuple(map(Cell, (run.name, run.command or NOTHING, run.status, reason)))
        for run, reason in zip(runs, reasons, strict=True)
        if reason
    )
    return Table("Runs that count in no mean, or in part", ("run", "command", "status", "reason"), rows, names=4)
