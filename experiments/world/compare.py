"""Compares two generators question by question, by what experiments/world/run.py wrote into two folders.

python -m experiments.world.compare outputs/mine outputs/shipped
python -m experiments.world.compare outputs/mine outputs/shipped --method oracle_from_found_0.33

The table holds differences, first − second, of means over drawings, with 95 % bootstrap intervals over these. Read
LPIPS and style first. LPIPS and finish error are better when negative, all else when positive. One training each.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from experiments.world.run import METRICS, ROWS
from experiments.world.targets import MORE_GROUPS

from pmg.evaluation.statistics import interval
from pmg.reporting.study_pages import format_interval, to_markdown_table

ASKED = ["question", "drawing", "line_art"]
KINDS = {"all": (True, False), "line art": (True,), "colour": (False,)}  # and the values of the column `line_art`


def read_method(folder: Path, group: str, method: str) -> pd.DataFrame:
    """Returns a method's values, a row a question; SystemExit if the folder has no such group or method."""
    path = folder / ROWS.format(group)
    if not path.is_file():
        raise SystemExit(f"{path} is missing: run experiments/world/run.py --groups {group} --into {folder}")
    rows = pd.read_parquet(path)
    if method not in set(rows["method"]):
        raise SystemExit(f"{path} has no method {method}; it has {', '.join(rows['method'].unique())}")
    return rows[rows["method"] == method].set_index(ASKED)


def compare(first: pd.DataFrame, second: pd.DataFrame) -> list[list[str]]:
    """Returns a row a kind of drawing: number of drawings, and the difference by each metric.

    Args:
        first: of `read_method`.
        second: likewise, of the same questions in any order.

    Raises:
        SystemExit: the questions differ.
    """
    if len(first) != len(second) or set(first.index) != set(second.index):
        raise SystemExit("the two folders hold other questions: run both with one --split and --count")
    difference = first[list(METRICS)] - second[list(METRICS)].loc[first.index]
    drawings, lines = (np.array(first.index.get_level_values(name)) for name in ASKED[1:])
    rows = []
    for kind, wanted in KINDS.items():
        if not (chosen := np.isin(lines, wanted)).any():
            continue
        cells = []
        for metric in METRICS:
            values = difference[metric].to_numpy()
            there = chosen & ~np.isnan(values)  # the artist has a value where both pictures have the right finish
            found = interval(values[there], drawings[there]) if there.any() else None
            cells.append(format_interval(vars(found), sign="+") if found else "–")
        rows.append([kind, str(len(np.unique(drawings[chosen]))), *cells])
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the differences of every group that both folders hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path, help="folder that experiments/world/run.py wrote")
    parser.add_argument("second", type=Path, help="another one, which the first is compared with")
    parser.add_argument("--method", default="oracle_4_steps", help="of both: what was drawn from")
    options = parser.parse_args(arguments)
    folders = (options.first, options.second)
    groups = [group for group in MORE_GROUPS if all((folder / ROWS.format(group)).is_file() for folder in folders)]
    if not groups:
        raise SystemExit(
            f"{options.first} and {options.second} have no group in common; experiments/world/run.py writes them"
        )
    table = [
        [group, *row]
        for group in groups
        for row in compare(*(read_method(folder, group, options.method) for folder in folders))
    ]
    print(to_markdown_table(("group", "drawings", "number", *METRICS.values()), table, names=2))


if __name__ == "__main__":
    main()
