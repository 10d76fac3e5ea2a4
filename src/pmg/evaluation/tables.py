"""Metrics as readers see them, and tables of results: built once, shown as Markdown or in a console."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

BASE, GOAL, MAIN = "none", "oracle", "pmg"
PSEUDO_METHODS = ("ceiling", "truth")  # the truth through the autoencoder; the truth itself: nobody competes with them
GAP_METRIC = "lpips_truth"
MINUS, NOTHING = "\N{MINUS SIGN}", "\N{EN DASH}"

FOOTNOTE = (
    "Mean over users [95 % bootstrap interval over users]; ↑ higher and ↓ lower is better; bold: the best "
    "method, references aside (oracle: the true taste in words; ceiling: the truth through the autoencoder; "
    "truth: the truth itself). nearest: the history's item with the nearest title, sent again. † used for selection, "
    "not evidence."
)


@dataclass(frozen=True)
class Metric:
    """A column of the results.

    Attributes:
        name: in rows and results.
        title: in tables.
        higher: whether higher is better.
        selects: whether the score selected the image, which makes it no evidence.
        digits: that are shown behind the point.
    """

    name: str
    title: str
    higher: bool = True
    selects: bool = False
    digits: int = 3


METRICS = (
    Metric("style_accuracy", "style accuracy"),
    Metric("concept_accuracy", "concept accuracy"),
    Metric("lpips_truth", "LPIPS to truth", higher=False),
    Metric("lpips_history", "LPIPS to history", higher=False),
    Metric("ssim_truth", "SSIM to truth"),
    Metric("ms_ssim_truth", "MS-SSIM to truth"),
    Metric("lpips_vgg_truth", "LPIPS (VGG) to truth", higher=False),
    Metric("dino_truth", "DINO to truth"),
    Metric("dino_history", "DINO to history"),
    Metric("clip_i_truth", "CLIP to truth"),
    Metric("clip_t_target", "CLIP to target's words"),
    Metric("clip_t_preference", "CLIP to preference's words"),
    Metric("precision_at_3", "precision at 3"),
    Metric("ndcg_at_3", "nDCG at 3"),
    Metric("selection_preference", "d_p", selects=True),
    Metric("selection_accuracy", "d_t", selects=True),
    Metric("selection_z", "z", selects=True),
)


@dataclass(frozen=True)
class Cell:
    """A table's cell: its text, whether it is the best of its column, and the number it is sorted by, if any."""

    text: str
    best: bool = False
    number: float | None = None


@dataclass(frozen=True)
class Table:
    """A titled table; the first columns, as many as `names`, hold the names of rows."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    names: int = 1


def build_tables(results: Mapping[str, Any]) -> list[Table]:
    """Returns the tables of `build_results`' results: arms, kinds of taste, differences, control, gap, sets."""
    tables = [arms_table("All users", results["arms"])]
    kinds = results["kinds"] if len(results["kinds"]) > 1 else {}  # a single kind is all users
    for kind, part in kinds.items():
        tables.append(arms_table(f"Users of {kind} taste", part["arms"]))
    tables.append(paired_table("Paired differences, all users", results["paired"]))
    for kind, part in kinds.items():
        tables.append(paired_table(f"Paired differences, {kind} taste", part["paired"]))
    tables.append(_control(results["control"]))
    tables.append(_gap(results["gap_closed"][GAP_METRIC]))
    tables.append(sets_table(results.get("sets", {})))
    return [table for table in tables if table.rows]


def to_markdown(tables: Sequence[Table], footnote: str = FOOTNOTE) -> str:
    """Returns the tables as Markdown, best values in bold, with the footnote."""
    return "\n".join([*(_markdown(table) for table in tables), footnote, ""])


def print_tables(tables: Sequence[Table], console: Console) -> None:
    """Shows the tables in a console, best values in bold, with the footnote."""
    for table in tables:
        shown = RichTable(header_style="dim")
        for number, name in enumerate(table.header):
            shown.add_column(name, justify="right" if number else "left")
        for row in table.rows:
            shown.add_row(*(Text(cell.text, style="bold green" if cell.best else "") for cell in row))
        console.print(Text(table.title, style="bold"))  # a table's own title wraps at the table's width
        console.print(shown)
    console.print(Text(FOOTNOTE, style="dim"))


def _markdown(table: Table) -> str:
    lines = [table.header, ["---"] * table.names + ["---:"] * (len(table.header) - table.names)]
    lines += [[f"**{_escape(cell.text)}**" if cell.best else _escape(cell.text) for cell in row] for row in table.rows]
    return "\n".join([f"## {table.title}", "", *(f"| {' | '.join(line)} |" for line in lines), ""])


def _escape(text: str) -> str:
    """Keeps a text within its cell."""
    return " ".join(text.split()).replace("|", "\\|")


def _present(found: Mapping[str, Mapping]) -> list[Metric]:
    """Metrics that any row of `found` holds, in their order."""
    return [metric for metric in METRICS if any(metric.name in values for values in found.values())]


def heading(metric: Metric) -> str:
    """A metric's title with its direction."""
    return f"{metric.title} †" if metric.selects else f"{metric.title} {'↑' if metric.higher else '↓'}"


def _number(value: float, signed: bool = False, digits: int = 3) -> str:
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text.replace("-", MINUS)


def _with_interval(values: Mapping[str, float], signed: bool = False, digits: int = 3) -> str:
    mean, low, high = (_number(values[name], signed, digits) for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]" if math.isfinite(values["low"]) else mean


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def arms_table(title: str, arms: Mapping[str, Mapping]) -> Table:
    """Returns one row an arm, each metric with its interval; `arms` as `build_results` gives them."""
    users = max((values["n"] for arm in arms.values() for values in arm.values()), default=0)
    names, found = [(arm,) for arm in arms], list(arms.values())
    return means_table(f"{title} (n = {users})", ("method",), names, found, METRICS)


def means_table(
    title: str,
    header: tuple[str, ...],
    names: Sequence[tuple[str, ...]],
    found: Sequence[Mapping[str, Mapping[str, float]]],
    metrics: Sequence[Metric],
) -> Table:
    """Returns a table of means with their intervals, the best of each metric marked.

    Args:
        title: of the table.
        header: of the first columns.
        names: what stands there in each row; a row whose last name is that of a reference does not compete.
        found: for each row its metrics' mean, low and high.
        metrics: the columns behind, as far as any row has them.
    """
    shown = [metric for metric in metrics if any(metric.name in values for values in found)]
    compete = [name[-1] not in (GOAL, *PSEUDO_METHODS) for name in names]
    rivals = [values for values, competes in zip(found, compete, strict=True) if competes]
    best = {metric.name: _best(metric, rivals) for metric in shown}

    def cell(values: Mapping[str, float] | None, metric: Metric, competes: bool) -> Cell:
        if values is None:
            return Cell(NOTHING)
        is_best = competes and _number(values["mean"], digits=metric.digits) == best[metric.name]
        return Cell(_with_interval(values, digits=metric.digits), is_best, values["mean"])

    rows = tuple(
        (*map(Cell, name), *(cell(values.get(metric.name), metric, competes) for metric in shown))
        for name, values, competes in zip(names, found, compete, strict=True)
    )
    return Table(title, (*header, *map(heading, shown)), rows, len(header))


def _best(metric: Metric, rivals: Sequence[Mapping[str, Mapping]]) -> str | None:
    """The best shown mean among the rows that compete; equals are all best; none for selection scores."""
    means = [values[metric.name]["mean"] for values in rivals if metric.name in values]
    if metric.selects or not means:
        return None
    return _number(max(means) if metric.higher else min(means), digits=metric.digits)


def paired_table(title: str, paired: Mapping[str, Mapping]) -> Table:
    """Returns one row a pair, each metric's difference with interval and p; as `build_results` gives them."""
    metrics = [metric for metric in _present(paired) if not metric.selects]

    def cell(values: Mapping[str, float] | None) -> Cell:
        return Cell(f"{_with_interval(values, signed=True)}, {_p(values['p'])}" if values else NOTHING)

    rows = tuple(
        (Cell(pair.replace("-", f" {MINUS} ")), *(cell(values.get(metric.name)) for metric in metrics))
        for pair, values in paired.items()
    )
    return Table(title, ("pair", *map(heading, metrics)), rows)


def _control(control: Mapping[str, Mapping]) -> Table:
    metrics = [metric for metric in _present(control) if not metric.selects]

    def cell(values: Mapping[str, float] | None) -> Cell:
        if not values:
            return Cell(NOTHING)
        return Cell(f"{_number(values['own'])} / {_number(values['mismatched'])}, {_p(values['p'])}")

    rows = tuple(
        (Cell(arm), *(cell(values.get(metric.name)) for metric in metrics)) for arm, values in control.items()
    )
    return Table("Own / mismatched user's preference", ("method", *map(heading, metrics)), rows)


def _gap(gap: Mapping[str, Mapping]) -> Table:
    rows = tuple((Cell(arm), Cell(_with_interval(values))) for arm, values in gap.items())
    return Table("Share of the gap from none to oracle, LPIPS to truth", ("method", "gap closed ↑"), rows)


def set_title(name: str) -> str:
    """A metric of sets as readers see it, e.g. ``KID (dino)``."""
    kind, _, encoder = name.partition("_")
    return f"{kind.upper()} ({encoder})"


def sets_table(sets: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    """Returns one row a method, each metric of sets in a column; `sets` as `measure_sets` gives them."""
    competing = {
        name: [_digits(values["value"]) for method, values in found.items() if method not in (GOAL, *PSEUDO_METHODS)]
        for name, found in sets.items()
    }
    best = {name: min(shown, key=float, default=None) for name, shown in competing.items()}

    def cell(method: str, name: str) -> Cell:
        values = sets[name][method]
        shown = _digits(values["value"])
        deviation = f" ± {_digits(values['std'])}" if "std" in values else ""
        chosen = method not in (GOAL, *PSEUDO_METHODS) and shown == best[name]
        return Cell(f"{shown}{deviation}".replace("-", MINUS), chosen)

    methods = list(next(iter(sets.values()), ()))
    count = max((values["n"] for found in sets.values() for values in found.values()), default=0)
    header = ("method", *(f"{set_title(name)} ↓" for name in sets))
    rows = tuple((Cell(method), *(cell(method, name) for name in sets)) for method in methods)
    return Table(f"Sets of {count} images, from the set of truths (± deviation over subsets)", header, rows)


def _digits(value: float) -> str:
    return f"{value:.4g}"
