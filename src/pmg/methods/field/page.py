"""The tables of the benchmark, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pmg.cache import atomic_write_text
from pmg.domain import PmgError
from pmg.evaluation.table_rendering import MINUS, NOTHING, Cell, Table, to_markdown
from pmg.methods.field.benchmark import MEASURES, Benchmark, Result
from pmg.methods.field.ranking import LOWER_IS_BETTER, rank_methods, user_values, way_to_truth

PAGE, START, END = "README.md", "<!-- field-table -->", "<!-- end of field-table -->"
HEADER = (
    "method", "rank", "first", "LPIPS to truth ↓", "style ↑", "concept ↑", "finish error ↓", "way to the truth ↑",
    "seconds a user", "trained",
)  # fmt: skip
UPPER_BOUNDS = ("oracle",)  # methods that read the truth take part in no ranking
NOTE = (
    "Rank by LPIPS, in brackets its interval (95 %) over users, by a paired bootstrap; first: share of resamples in "
    "which the method is the best. Means over seeds, [95 % interval]; bold: a method whose rank interval holds 1. Way "
    "to the truth: from `none` to `oracle`, by LPIPS. Seconds a user: to read the preference, without reading "
    "histories once for all methods. Revisions, machines and digests are in the result files."
)


def write_page(folder: Path, benchmark: Benchmark, results: Mapping[str, Result]) -> None:
    """Puts the tables of all results between the markers of the folder's page; PmgError if it has none."""
    path = folder / PAGE
    text = path.read_text(encoding="utf-8") if path.is_file() else f"# field\n\n{START}\n{END}\n"
    if START not in text or END not in text:
        raise PmgError(f"{path} has no lines '{START}' and '{END}', between which the tables go")
    before, after = text[: text.index(START)], text[text.index(END) :]
    tables = [build_channel(channel, benchmark, results) for channel in benchmark.channels]
    tables += [build_groups(benchmark, results)]
    atomic_write_text(path, f"{before}{START}\n{to_markdown(tables, NOTE)}{after}")


def build_channel(channel: str, benchmark: Benchmark, results: Mapping[str, Result]) -> Table:
    """Returns the table of one channel, the best method first, upper bounds last."""
    values = {
        measure: {name: user_values(each, benchmark, channel, measure) for name, each in results.items()}
        for measure in MEASURES
    }
    ranked = {name: each for name, each in values[MEASURES[0]].items() if name not in UPPER_BOUNDS}
    standings = rank_methods(ranked, MEASURES[0] in LOWER_IS_BETTER)
    means = {measure: rank_methods(each, measure in LOWER_IS_BETTER) for measure, each in values.items()}
    rows = []
    for name in (*standings, *(bound for bound in UPPER_BOUNDS if bound in results)):
        standing = standings.get(name)
        place = NOTHING if standing is None else f"{standing.rank} [{standing.best}–{standing.worst}]"
        shown = [means[measure][name] for measure in MEASURES]
        way = way_to_truth(values[MEASURES[0]], name)
        cost = [results[name].cost[f"{channel}/{seed}"]["seconds"] for seed in benchmark.seeds]
        rows.append((
            Cell(name),
            Cell(place, best=standing is not None and standing.best == 1),
            Cell(NOTHING if standing is None else f"{standing.firsts:.0%}"),
            *(Cell(f"{one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]") for one in shown),
            Cell(NOTHING if way is None else f"{way:.2f}".replace("-", MINUS)),
            Cell(f"{np.mean(cost) / len(benchmark.groups):.3f}"),
            Cell("yes" if results[name].trained else "no"),
        ))  # fmt: skip
    return Table(f"{channel}: {len(benchmark.groups)} users, {len(benchmark.seeds)} seeds", HEADER, tuple(rows))


def build_groups(benchmark: Benchmark, results: Mapping[str, Result]) -> Table:
    """Returns each method's LPIPS in each group of users, by channel."""
    groups = sorted(set(benchmark.groups.values()))
    labels = np.array([benchmark.groups[example] for example in sorted(benchmark.groups)])
    columns = [(channel, group) for channel in benchmark.channels for group in groups]
    found = {
        name: [
            user_values(each, benchmark, channel, MEASURES[0])[labels == group].mean() for channel, group in columns
        ]
        for name, each in results.items()
    }
    lowest = [min(found[name][place] for name in found if name not in UPPER_BOUNDS) for place in range(len(columns))]
    rows = tuple(
        (Cell(name), *(Cell(f"{one:.3f}", best=one == low) for one, low in zip(each, lowest, strict=True)))
        for name, each in sorted(found.items(), key=lambda pair: np.mean(pair[1]))
    )
    return Table("LPIPS to truth by group", ("method", *(f"{c}: {g}" for c, g in columns)), rows)
