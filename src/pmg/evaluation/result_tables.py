"""Tables of results; titles, directions and digits are those that the results hold of their metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pmg.evaluation.comparison import RECONSTRUCTION, TRUTH, Comparison
from pmg.evaluation.metric_interface import MetricInfo, read_infos
from pmg.evaluation.references import NEAREST
from pmg.evaluation.table_rendering import MINUS, NOTHING, Cell, Table

SIGNIFICANT = 4  # digits of metrics of sets
HEADLINE = 3  # metrics that fit into 80 columns with their intervals


@dataclass(frozen=True)
class ResultTables:
    """Builds the tables of results."""

    metrics: Sequence[MetricInfo]  # descriptions of the columns, in their order; a column that no row has is left out
    comparison: Comparison  # which methods compete
    compact: bool = False  # whether the ends of intervals have one digit less than the mean

    @classmethod
    def of(cls, results: Mapping[str, Any]) -> ResultTables:
        """Returns the builder for the results of `ResultBuilder.build`."""
        return cls(read_infos(results["metrics"]), Comparison.from_dict(results["comparison"]))

    @property
    def footnote(self) -> str:
        """How to read the tables."""
        return (
            "Mean over users [95 % bootstrap interval over users]; ↑ higher and ↓ lower is better; bold: the best "
            f"method, references aside ({self.comparison.oracle}: generated from the true taste; {RECONSTRUCTION}: "
            f"the truth through the autoencoder; {TRUTH}: the truth itself). {NEAREST}: the liked item of the history "
            "with the nearest title. † used for selection, not evidence."
        )

    def headline(self, results: Mapping[str, Any]) -> tuple[Table, str]:
        """Returns the table of all methods that fits 80 columns, and how to read it.

        Its three metrics are the first of each aspect and that of the gap (`Comparison.gap_metric`); where there are
        fewer of them, the next metrics follow.
        """
        methods = results["methods"]
        measured = {name for values in methods.values() for name in values}
        found = [metric for metric in self.metrics if metric.name in measured and not metric.selects]
        first = {metric.aspect: metric.name for metric in reversed(found) if metric.aspect}
        named = [self.comparison.gap_metric, *first.values()]
        ranked = sorted(found, key=lambda metric: metric.name not in named)[:HEADLINE]
        shown = [metric for metric in found if metric in ranked]
        aside = ", ".join(method for method in methods if not self.comparison.competes(method))
        note = f"Mean [95 % interval over users]. * best method{aside and f', without {aside}'}."
        return replace(self, metrics=shown, compact=True).methods("All users", methods), note

    def build(self, results: Mapping[str, Any]) -> list[Table]:
        """Returns all tables with rows: methods, differences and control, each also by group, gap, sets."""
        groups, control = list(_groups(results)), "Own / mismatched user's preference"
        tables = [
            self.methods("All users", results["methods"]),
            *(self.methods(f"Users with {name}", part["methods"]) for name, part in groups),
            self.paired("Paired differences, all users", results["paired"]),
            *(self.paired(f"Paired differences, {name}", part["paired"]) for name, part in groups),
            self.control(control, results["control"]),
            *(self.control(f"{control}, {name}", part["control"]) for name, part in groups),
            self.gap(results["gap_closed"]),
            self.sets(results.get("sets", {})),
        ]
        return [table for table in tables if table.rows]

    def methods(self, title: str, methods: Mapping[str, Mapping]) -> Table:
        """Returns one row a method, each metric with its interval."""
        users = max((values["n"] for method in methods.values() for values in method.values()), default=0)
        return self.means(
            f"{title} (n = {users})", ("method",), [(method,) for method in methods], list(methods.values())
        )

    def means(
        self, title: str, header: tuple[str, ...], names: Sequence[tuple[str, ...]],
        found: Sequence[Mapping[str, Mapping[str, float]]],
    ) -> Table:  # fmt: skip
        """Returns a table of means with their intervals, the best of each metric marked.

        Each row has `names`, a text for each of the first columns, the `header`, and in `found` its metrics' mean, low
        and high; one whose first name is a reference method does not compete.
        """
        shown = [metric for metric in self.metrics if any(metric.name in values for values in found)]
        compete = [self.comparison.competes(name[0]) for name in names]
        rivals = [values for values, competes in zip(found, compete, strict=True) if competes]
        best = {metric.name: _best(metric, rivals) for metric in shown}

        def cell(values: Mapping[str, float] | None, metric: MetricInfo, competes: bool) -> Cell:
            """Returns mean and interval, marked where it is the best."""
            if values is None:
                return Cell(NOTHING)
            is_best = competes and _number(values["mean"], digits=metric.digits) == best[metric.name]
            text = _with_interval(values, digits=metric.digits, fewer=int(self.compact))
            return Cell(text, is_best, values["mean"])

        rows = tuple(
            (*map(Cell, name), *(cell(values.get(metric.name), metric, competes) for metric in shown))
            for name, values, competes in zip(names, found, compete, strict=True)
        )
        return Table(title, (*header, *map(heading, shown)), rows, len(header))

    def paired(self, title: str, paired: Mapping[str, Mapping]) -> Table:
        """Returns one row a pair, each metric's difference with interval and p."""

        def cell(values: Mapping[str, float], digits: int) -> Cell:
            """Returns the difference with interval and p."""
            return Cell(f"{_with_interval(values, signed=True, digits=digits)}, {show_p(values['p'])}")

        named = {pair.replace("-", f" {MINUS} "): values for pair, values in paired.items()}
        return self._evidence(title, "pair", named, cell)

    def control(self, title: str, control: Mapping[str, Mapping]) -> Table:
        """Returns one row a method: means with the own and with a mismatched user's preference, and p."""

        def cell(values: Mapping[str, float], digits: int) -> Cell:
            """Returns both means and p."""
            own, other = (_number(values[name], digits=digits) for name in ("own", "mismatched"))
            return Cell(f"{own} / {other}, {show_p(values['p'])}")

        return self._evidence(title, "method", control, cell)

    def _evidence(self, title: str, first: str, found: Mapping[str, Mapping], cell: Any) -> Table:
        """Returns a table without the scores that select."""
        present = {name for values in found.values() for name in values}
        metrics = [metric for metric in self.metrics if metric.name in present and not metric.selects]
        rows = tuple(
            (Cell(row), *(cell(values[m.name], m.digits) if m.name in values else Cell(NOTHING) for m in metrics))
            for row, values in found.items()
        )
        return Table(title, (first, *map(heading, metrics)), rows)

    def gap(self, gap_closed: Mapping[str, Mapping[str, Mapping]]) -> Table:
        """Returns one row a method: the share of the gap that it closes."""
        name, found = self.comparison.gap_metric, gap_closed[self.comparison.gap_metric]
        title = next((metric.title for metric in self.metrics if metric.name == name), name)
        rows = tuple((Cell(method), Cell(_with_interval(values))) for method, values in found.items())
        ends = f"{self.comparison.baseline} to {self.comparison.oracle}"
        return Table(f"Share of the gap from {ends}, {title}", ("method", "gap closed ↑"), rows)

    def sets(self, sets: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
        """Returns one row a method, each metric of sets in a column."""
        metrics = [metric for metric in self.metrics if metric.name in sets]
        best = {metric.name: self._best_set(metric, sets[metric.name]) for metric in metrics}

        def cell(method: str, metric: MetricInfo) -> Cell:
            """Returns a metric of a method's images, marked where it is the best."""
            if (values := sets[metric.name].get(method)) is None:
                return Cell(NOTHING)
            shown = _significant(values["value"])
            deviation = f" ± {_significant(values['std'])}" if "std" in values else ""
            is_best = self.comparison.competes(method) and shown == best[metric.name]
            return Cell(f"{shown}{deviation}".replace("-", MINUS), is_best)

        methods = list(dict.fromkeys(method for found in sets.values() for method in found))
        counts = sorted({values["n"] for found in sets.values() for values in found.values()})
        rows = tuple((Cell(method), *(cell(method, metric) for metric in metrics)) for method in methods)
        images = " to ".join(map(str, sorted({counts[0], counts[-1]}))) if counts else "no"
        title = f"Sets of {images} images, from the set of truths (± deviation over subsets)"
        return Table(title, ("method", *map(heading, metrics)), rows)

    def _best_set(self, metric: MetricInfo, found: Mapping[str, Mapping[str, float]]) -> str | None:
        shown = [_significant(each["value"]) for method, each in found.items() if self.comparison.competes(method)]
        return (max if metric.higher_is_better else min)(shown, key=float, default=None)


def _groups(results: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields each part of the users by label and value; a label with a single value splits nothing."""
    for label, parts in results["groups"].items():
        for value, part in parts.items() if len(parts) > 1 else ():
            yield f"{label} = {value}", part


def heading(metric: MetricInfo) -> str:
    """Returns a metric's title with its direction."""
    return f"{metric.title} {'†' if metric.selects else '↑' if metric.higher_is_better else '↓'}"


def _number(value: float, signed: bool = False, digits: int = 3) -> str:
    return f"{value:{'+' if signed else ''}z.{digits}f}".replace("-", MINUS)


def _with_interval(values: Mapping[str, float], signed: bool = False, digits: int = 3, fewer: int = 0) -> str:
    mean = _number(values["mean"], signed, digits)
    low, high = (_number(values[name], signed, digits - fewer) for name in ("low", "high"))
    known = math.isfinite(values["low"]) and values.get("n") != 1  # one user alone can't be resampled
    return f"{mean} [{low}, {high}]" if known else mean


def show_p(value: float) -> str:
    """Returns a p-value as text."""
    return "p unknown" if value != value else "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _significant(value: float) -> str:
    return f"{value:.{SIGNIFICANT}g}"


def _best(metric: MetricInfo, rivals: Sequence[Mapping[str, Mapping]]) -> str | None:
    """Returns the best shown mean among the rows that compete; equals are all best; None for selection scores."""
    means = [values[metric.name]["mean"] for values in rivals if metric.name in values]
    if metric.selects or not means:
        return None
    return _number((max if metric.higher_is_better else min)(means), digits=metric.digits)
