"""The tables of the benchmark in Markdown: methods ranked, with their uncertainty, by a bootstrap over users."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pmg.cache import atomic_write_text
from pmg.domain import PmgError
from pmg.evaluation.statistics import LEVEL, Difference, bootstrap_users, interval, paired_difference, share_of_gap
from pmg.evaluation.table_rendering import MINUS, NOTHING, Cell, Table, to_markdown
from pmg.methods.field.benchmark import LOWER_IS_BETTER, MEASURES, RANKED_BY, Benchmark, Costs, Result, read_costs

PAGE, BEGIN, END = "README.md", "<!-- field-table -->", "<!-- end of field-table -->"
BASELINE, ORACLE = "none", "oracle"  # 0 and 1 of the way to the oracle
TITLES = {
    "lpips_truth": "LPIPS to truth ↓", "style_accuracy": "style ↑", "concept_accuracy": "concept ↑",
    "finish_error": "finish error ↓",
}  # fmt: skip
NOTE = (
    f"Rank by {TITLES[RANKED_BY]}, in brackets its interval (95 %) for each method alone, by a paired bootstrap over "
    "users; first: share of resamples in which the method is best; behind: paired difference to rank 1, bold where "
    "its interval holds 0. Means over seeds. Way to the oracle, which gets the exact look: from `none`. "
    "Seconds a user, to read histories and preference and to draw a picture, and memory: of a method alone, without a "
    "cache, on one thread (costs.json). Settings, revisions, machines and digests are in the result files."
)


def write_page(folder: Path, benchmark: Benchmark, results: Mapping[str, Result]) -> None:
    """Puts the tables of all results between the markers of the folder's page.

    PmgError if the page has no markers, or there is no method that has a rank.
    """
    path = folder / PAGE
    text = path.read_text(encoding="utf-8") if path.is_file() else f"# field\n\n{BEGIN}\n{END}\n"
    if BEGIN not in text or END not in text:
        raise PmgError(f"{path} has no lines '{BEGIN}' and '{END}', between which the tables go")
    if all(result.bound for result in results.values()):
        raise PmgError(f"{folder} has no results to rank: add runs, pmg-report field --add RUNS")
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    costs = read_costs(folder)
    shown = [name for name in benchmark.channels if any(one.has(name) and not one.bound for one in results.values())]
    tables = [build_channel(channel, benchmark, results, costs) for channel in shown]
    tables += [build_groups(benchmark, results)]
    atomic_write_text(path, f"{before}{BEGIN}\n{to_markdown(tables, NOTE)}{after}")


def build_channel(
    channel: str, benchmark: Benchmark, results: Mapping[str, Result], costs: Costs | None = None
) -> Table:
    """Returns the table of one channel, the best of the methods that were run there first, upper bounds last."""
    results = {name: result for name, result in results.items() if result.has(channel)}
    users = np.arange(len(benchmark.groups))
    values = {
        measure: {name: user_values(each, benchmark, channel, measure) for name, each in results.items()}
        for measure in MEASURES
    }
    ranked = {name: each for name, each in values[RANKED_BY].items() if not results[name].bound}
    standings = rank_methods(ranked, RANKED_BY in LOWER_IS_BETTER)
    ends = [values[RANKED_BY].get(name) for name in (BASELINE, ORACLE)]
    rows = []
    for name in (*standings, *(name for name in results if results[name].bound)):
        place, first, behind = Cell(NOTHING), Cell(NOTHING), Cell(NOTHING)
        if standing := standings.get(name):
            place = Cell(f"{standing.rank} [{standing.best}–{standing.worst}]")
            first, found = Cell(f"{standing.firsts:.0%}"), standing.behind
            if found:
                shown = signed(f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]")
                behind = Cell(shown, best=found.low <= 0 <= found.high)
        way = NOTHING
        if ends[0] is not None and ends[1] is not None:
            way = signed(f"{share_of_gap(ends[0], values[RANKED_BY][name], ends[1], users).mean:.2f}")
        means = [interval(values[measure][name], users) for measure in MEASURES]
        cost = (NOTHING, NOTHING)
        if costs and (taken := costs.methods.get(name)):
            cost = (f"{taken['read']:.2f} + {taken['draw']:.2f}", f"{taken['memory_mib']:,.0f}")
        rows.append((
            Cell(name), place, first, behind,
            *(Cell(signed(f"{one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]")) for one in means),
            Cell(way), *map(Cell, cost), Cell("yes" if results[name].trained else "no"),
        ))  # fmt: skip
    titles = [TITLES[measure] for measure in MEASURES]
    header = ("method", "rank", "first", "behind", *titles, "way to the oracle ↑", "seconds a user", "MiB", "trained")
    return Table(f"{channel}: {len(users)} users, seeds {', '.join(map(str, benchmark.seeds))}", header, tuple(rows))


def build_groups(benchmark: Benchmark, results: Mapping[str, Result]) -> Table:
    """Returns each method's means in each group of users, by channel, of the measure that ranks."""
    groups = sorted(set(benchmark.groups.values()))
    labels = np.array([benchmark.groups[example] for example in sorted(benchmark.groups)])
    sign = 1 if RANKED_BY in LOWER_IS_BETTER else -1
    columns = {
        f"{channel}: {group}": {
            name: sign * user_values(each, benchmark, channel, RANKED_BY)[labels == group].mean()
            for name, each in results.items()
            if each.has(channel)
        }
        for channel in benchmark.channels
        for group in groups
    }
    means = pd.DataFrame(columns, index=list(results))
    best = means[[not results[name].bound for name in means.index]].min()
    means = means.assign(gaps=means.isna().sum(axis=1), mean=means.mean(axis=1)).sort_values(["gaps", "mean"])

    def cell(mean: float, top: float) -> Cell:
        """Returns a mean, marked where it is the best of its group."""
        return Cell(NOTHING if np.isnan(mean) else f"{sign * mean:.3f}", best=mean == top)

    shown = means[list(columns)].iterrows()
    rows = tuple((Cell(str(name)), *map(cell, row, best)) for name, row in shown)
    return Table(f"{TITLES[RANKED_BY]} by group", ("method", *columns), rows)


def signed(text: str) -> str:
    """Returns numbers with true minus signs, none before a zero."""
    return re.sub(r"-(?=0\.0+(?!\d))", "", text).replace("-", MINUS)


@dataclass(frozen=True)
class Standing:
    """A method among others by one measure."""

    rank: int  # 1 is the best mean
    best: int  # smallest rank of the interval (95 %) over resampled users, for this method alone
    worst: int  # largest rank of that interval
    firsts: float  # share of the resamples in which it is the best
    behind: Difference | None  # its paired difference to the method of rank 1; None: it is that one


def user_values(result: Result, benchmark: Benchmark, channel: str, measure: str) -> np.ndarray:
    """Returns a measure of each example of a channel, `(U,)`, the mean over seeds, in sorted order of examples."""
    return np.mean([result.cells[f"{channel}/{seed}"][measure] for seed in benchmark.seeds], axis=0)


def rank_methods(values: Mapping[str, np.ndarray], lower_is_better: bool, seed: int = 0) -> dict[str, Standing]:
    """Returns the standing of each method, the best first, of its values `(U,)` on the same users.

    Users are resampled together for all methods. Equal means share the smaller rank.
    """
    names, columns = list(values), np.stack(list(values.values()), axis=1)
    sign = 1.0 if lower_is_better else -1.0
    ranks = rank_rows(sign * columns.mean(axis=0)[None])[0]
    resampled = rank_rows(sign * bootstrap_users(columns, seed))
    edges = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.quantile(resampled, edges, axis=0, method="inverted_cdf")  # whole ranks
    order, users = np.argsort(ranks, kind="stable"), np.arange(len(columns))
    return {
        names[place]: Standing(
            int(ranks[place]), int(low[place]), int(high[place]), float((resampled[:, place] == 1).mean()),
            None if place == order[0] else paired_difference(columns[:, place], columns[:, order[0]], users, seed),
        )
        for place in order
    }  # fmt: skip


def rank_rows(values: np.ndarray) -> np.ndarray:
    """Returns the ranks of columns in each row `(R, M)`, 1 the smallest value; equal ones share the smaller."""
    return 1 + (values[:, None, :] < values[:, :, None]).sum(axis=2)
