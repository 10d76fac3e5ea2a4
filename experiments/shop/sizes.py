"""Compares generators of parts of the shop's pictures, into docs/shop.md: no number is typed by hand.

python -m experiments.shop.sizes outputs/shop/sizes   # a folder for each part: data, denoiser, results (docs/shop.md)
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from pmg.cache import atomic_write_json
from pmg.evaluation.metric_interface import MetricInfo, read_infos
from pmg.evaluation.statistics import interval
from pmg.evaluation.table_rendering import MINUS
from pmg.reporting.study_pages import fill
from pmg.reporting.study_report import own_minus_mismatched

METRIC, METHODS = "lpips_truth", ("none", "style")
HEAD = ("pictures", "steps", "none", "style", "style: own minus another customer's")


def read_sizes(folder: Path) -> dict[int, tuple[dict[str, Any], pd.DataFrame]]:
    """Returns, by number of pictures, facts of the training and judged rows; 0: the shipped generator.

    Raises:
        SystemExit: the folder holds no results, or two parts have the same number of pictures.
    """
    found: dict[int, tuple[dict[str, Any], pd.DataFrame]] = {}
    parts: dict[int, Path] = {}
    for path in sorted(folder.glob("*/results/results.json")):
        part, results = path.parents[1], json.loads(path.read_text())
        trained = part / "denoiser" / "metrics.json"
        facts = {"pictures": 0, "steps": 0, "revision": results["revision"], "metrics": results["metrics"]}
        if trained.is_file():
            config = json.loads(trained.read_text())["identity"]
            manifest = json.loads((part / "data" / "manifest.json").read_text())
            facts |= {"pictures": manifest["pictures"], "steps": config["trainer.max_steps"]}
        if parts.setdefault(facts["pictures"], part) != part:
            raise SystemExit(
                f"{parts[facts['pictures']]} and {part} both have a generator of {facts['pictures']} pictures, "
                f"a line of the table: move one of them out of {folder}"
            )
        found[facts["pictures"]] = facts, pd.read_parquet(path.parent / "rows.parquet")
    if not found:
        raise SystemExit(f"{folder} has no folder with results/results.json; docs/shop.md has the commands")
    return dict(sorted(found.items()))


def summarize(facts: dict[str, Any], rows: pd.DataFrame, metrics: list[MetricInfo]) -> dict[str, Any]:
    """Returns means of the methods with intervals over customers, and what a customer's own preference adds."""
    own = rows[rows["control"] == "own"]
    parts = {method: own[own["method"] == method] for method in METHODS}
    means = {m: asdict(interval(part[METRIC].to_numpy(), part["user"].to_numpy())) for m, part in parts.items()}
    difference = own_minus_mismatched(rows, metrics)["style"][METRIC]
    kept = {key: value for key, value in facts.items() if key != "metrics"}
    return {**kept, METRIC: means, "own_minus_mismatched": difference}


def to_row(found: dict[str, Any]) -> str:
    """Returns a line of the table."""
    cells = [f"{found['pictures']:,}" if found["steps"] else "none: as shipped", str(found["steps"])]
    for values in (*found[METRIC].values(), found["own_minus_mismatched"]):
        cells.append("{mean:.3f} [{low:.3f}, {high:.3f}]".format(**values).replace("-", MINUS))
    return f"| {' | '.join(cells)} |"


def main(source: Path, into: Path, document: Path) -> None:
    """Writes the comparison as JSON, and its table between the document's markers."""
    sizes = read_sizes(source)
    common = set.intersection(*(set(rows["example"]) for _, rows in sizes.values()))
    found = []
    for facts, rows in sizes.values():
        metrics = [metric for metric in read_infos(facts["metrics"]) if metric.name == METRIC]
        found.append(summarize(facts, rows[rows["example"].isin(common)], metrics))
    atomic_write_json(into, found)
    lines = [f"| {' | '.join(HEAD)} |", "|---:|---:|---:|---:|---:|", *map(to_row, found)]
    fill(document, "sizes", "\n".join(lines))
    print(into, document, sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    here = Path(__file__).resolve().parent
    main(parser.parse_args().folder, here / "sizes.json", here.parents[1] / "docs" / "shop.md")
