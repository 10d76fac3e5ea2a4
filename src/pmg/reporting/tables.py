"""The tables of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pmg.evaluation.tables import FOOTNOTE, METRICS, NOTHING, Cell, Metric, Table, means_table, set_title
from pmg.reporting.artifacts import Evidence
from pmg.reporting.runs import RunFolder
from pmg.reporting.summary import Group, drop_repeats, problem_of, scalar_metric
from pmg.reporting.variants import Factors

TRAINING = "Intervals of training metrics, and of metrics of whole sets: Student's, over runs; a single run has none."


def summary_tables(groups: Sequence[Group], factors: Factors) -> list[Table]:
    """Means of every group: judged metrics by method, and what training measured."""
    judged = [(group, method, group.arms[method]) for group in groups for method in group.arms]
    trained = [group for group in groups if group.scalars]
    users = max((values["n"] for *_, arm in judged for values in arm.values()), default=0)
    tables = (
        means_table(
            f"Judged images (n = {users} users)", (*factors.chosen, "runs", "method"),
            [(*group.values, _count(arm), method) for group, method, arm in judged],
            [arm for *_, arm in judged], judged_metrics(groups),
        ),
        means_table(
            "Training", (*factors.chosen, "runs"), [(*group.values, _count(group.scalars)) for group in trained],
            [group.scalars for group in trained], trained_metrics(trained),
        ),
    )  # fmt: skip
    return [table for table in tables if table.rows]


def _count(values: Mapping[str, Mapping[str, float]]) -> str:
    """How many runs a row's means are of."""
    return str(max(value["runs"] for value in values.values()))


def judged_metrics(groups: Sequence[Group]) -> list[Metric]:
    """Metrics of images, and of whole sets where any group has some."""
    known = {metric.name for metric in METRICS}
    names = dict.fromkeys(name for group in groups for arm in group.arms.values() for name in arm)
    return [*METRICS, *(Metric(n, set_title(n), higher=False, digits=4) for n in names if n not in known)]


def trained_metrics(groups: Sequence[Group]) -> list[Metric]:
    """What trainings of any group measured."""
    names = dict.fromkeys(name for group in groups for name in group.scalars)
    columns = {name: [group.scalars[name]["mean"] for group in groups if name in group.scalars] for name in names}
    return [scalar_metric(name) for name in drop_repeats(columns)]


def footnote(tables: Sequence[Table]) -> str:
    """How to read the summary."""
    titles = [table.title for table in tables]
    notes = {FOOTNOTE: any(title.startswith("Judged") for title in titles), TRAINING: "Training" in titles}
    return " ".join(note for note, needed in notes.items() if needed)


def runs_table(runs: Sequence[RunFolder], factors: Factors) -> Table:
    """One row a run with what tells it apart."""
    header = ("run", "command", "status", *factors.chosen, "seed", "seconds", "peak MiB", "revision")

    def row(run: RunFolder) -> tuple[Cell, ...]:
        seconds, memory = (run.cost.get(name) for name in ("seconds", "ram_mib"))
        seed = Cell(NOTHING if run.seed is None else str(run.seed), number=run.seed)
        texts = (run.name, run.command, run.status, *factors.values(run))
        return (*map(Cell, texts), seed, _rounded(seconds), _rounded(memory), Cell(run.revision[:10] or NOTHING))

    return Table(f"All runs ({len(runs)})", header, tuple(map(row, runs)), names=3 + len(factors.chosen))


def _rounded(value: float | None) -> Cell:
    return Cell(NOTHING) if value is None else Cell(f"{value:,.0f}", number=value)


def problems_table(runs: Sequence[RunFolder], evidence: Evidence) -> Table:
    """Runs that failed, did not finish, or left what can't be read."""
    reasons = [problem_of(run, evidence.problems.get(number)) for number, run in enumerate(runs)]
    rows = tuple(
        tuple(map(Cell, (run.name, run.command or NOTHING, run.status, reason)))
        for run, reason in zip(runs, reasons, strict=True)
        if reason
    )
    return Table("Runs that count in no mean, or in part", ("run", "command", "status", "reason"), rows, names=4)
