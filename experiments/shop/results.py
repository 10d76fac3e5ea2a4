"""Records the results of the shop (docs/shop.md) in experiments/shop, with what a customer's own preference adds.

python -m experiments.shop.results outputs/shop/results
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

from pmg.evaluation.metric_interface import read_infos
from pmg.evaluation.result_tables import ResultTables
from pmg.evaluation.table_rendering import to_markdown
from pmg.reporting.study_pages import OVERVIEW, SHEET, copy_results, write_study
from pmg.reporting.study_report import own_minus_mismatched

STUDY = "shop"


def main(source: Path) -> None:
    """Copies results, and writes the differences into results.json, table.md and the README."""
    folder = Path(__file__).parent
    copy_results(source, folder, STUDY)
    (folder / OVERVIEW).unlink()  # without groups of users it is the whole sheet
    results = json.loads((folder / "results.json").read_text())
    rows, metrics = pd.read_parquet(folder / "rows.parquet"), read_infos(results["metrics"])
    results["own_minus_mismatched"] = own_minus_mismatched(rows, metrics)
    title = "Own minus a mismatched customer's preference"
    table = ResultTables.of(results).paired(title, results["own_minus_mismatched"])
    note = "Mean difference [95 % bootstrap interval over customers], p of a permutation test over customers."
    text = to_markdown([table], note) + "\n" + (folder / "table.md").read_text()
    write_study(folder, STUDY, results, text)
    print(folder / "table.md", folder / SHEET, sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="folder of the study's results")
    main(parser.parse_args().source)
