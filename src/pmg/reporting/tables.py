"""The tables of a report."""

from __future__ import annotations

from collections.abc import Sequence

from pmg.evaluation.tables import FOOTNOTE, METRICS, NOTHING, Cell, Metric, Table, means_table
from pmg.reporting.evidence import Evidence
from pmg.reporting.factors import Factors
from pmg.reporting.runs import RunFolder
from pmg.reporting.summary import Group, problem_of, scalar_metric

TRAINING = "Intervals of training metrics: Student's, over runs; a single run has none."


def summary_tables(groups: Sequence[Group], factors: Factors) -> list[Table]:
    """Means of every group: judged metrics by method, and what training measured."""
    judged = [(group, method) for group in groups for method in group.arms]
    trained = [group for group in groups if group.scalars]
    users = max((values["n"] for group, method in judged for values in group.arms[method].values()), default=0)
    return [
        table
        for table in (
            means_table(
                f"Judged images (n = {users} users)", (*factors.chosen, "runs", "method"),
                [(*group.values, str(len(group.runs)), method) for group, method in judged],
                [group.arms[method] for group, method in judged], METRICS,
            ),
            means_table(
                "Training", (*factors.chosen, "runs"), [(*group.values, str(len(group.runs))) for group in trained],
                [group.scalars for group in trained], trained_metrics(trained),
            ),
        )
        if table.rows
    ]  # fmt: skip


def trained_metrics(groups: Sequence[Group]) -> list[Metric]:
    """What trainings of any group measured."""
    return [scalar_metric(name) for name in dict.fromkeys(name for group in groups for name in group.scalars)]


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

    return Table(f"All {len(runs)} runs", header, tuple(map(row, runs)), names=3)


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
