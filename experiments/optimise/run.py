"""Draws what the judge sees along a training of soft tokens, from runs of the study `optimise` of one seed.

python -m experiments.optimise.run outputs/studies/optimise outputs/studies/optimise_long

A run is a point at the passes of the denoiser, there and back, that it was trained by. At 0 is the untrained mean of
style tokens, from which all of them start. Differences from it are paired over users.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from pmg.cache import atomic_write_json
from pmg.evaluation.metrics.lpips import LpipsToTruth
from pmg.evaluation.statistics import Interval, interval
from pmg.evaluation.table_rendering import Cell, Table, to_markdown
from pmg.looks.metrics import LookAccuracy
from pmg.reporting.figures import draw_effect, save
from pmg.reporting.study_pages import fill
from pmg.reporting.study_report import differences

HERE = Path(__file__).parent
SHOWN = [*LookAccuracy.outputs, *LpipsToTruth.outputs]
PASSES = {"denoise": 2, "contrast": 2, "dpo": 4}  # of the denoiser, that a term adds to a step
START = "mean_style"  # the untrained method


def read_runs(folders: Sequence[Path], seed: int) -> list[dict[str, Any]]:
    """Returns the objective, steps, passes and rows of each finished run of a seed, shortest first."""
    found = []
    for path in [path for folder in folders for path in folder.glob(f"*,seed={seed}/results.json")]:
        config = json.loads(path.read_text())["config"]
        terms = [name for name in config["objective"]["module"]["terms"] if name in PASSES]
        steps = config["trainer"]["max_steps"]
        found.append({
            "objective": terms[-1], "steps": steps, "passes": steps * sum(PASSES[name] for name in terms),
            "rows": pd.read_parquet(path.parent / "rows.parquet"),
        })  # fmt: skip
    if not found:
        raise SystemExit(f"no finished run of seed {seed} in these folders; run the study first: make optimise")
    return sorted(found, key=lambda run: run["passes"])


def measure(rows: pd.DataFrame, method: str) -> dict[str, Interval]:
    """Returns the mean of each metric of a method with its interval over users."""
    own = rows[(rows["method"] == method) & (rows["control"] == "own")]
    return {metric.name: interval(own[metric.name].to_numpy(), own["user"].to_numpy()) for metric in SHOWN}


def gain(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Returns the paired differences of trained tokens from those that they start from."""
    own = rows[rows["control"] == "own"]
    return differences(own[own["method"] == "soft"], own[own["method"] == START], SHOWN)


def to_row(run: Mapping[str, Any]) -> tuple[Cell, ...]:
    """Returns the cells of a run."""
    means, gained = measure(run["rows"], "soft"), gain(run["rows"])
    cells = []
    for metric in SHOWN:
        mean, change = means[metric.name], gained[metric.name]
        text = f"{mean.mean:.3f} ({change['mean']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}])"
        cells.append(Cell(text.replace("-", "\N{MINUS SIGN}")))
    return (Cell(run["objective"]), Cell(str(run["steps"])), Cell(str(run["passes"])), *cells)


def main() -> None:
    """Writes table, figure and numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    runs = read_runs(given.folders, given.seed)
    header = ("objective", "steps", "passes", *(f"{metric.title} (less the untrained)" for metric in SHOWN))
    table = Table(f"Seed {given.seed}", header, tuple(map(to_row, sorted(runs, key=lambda run: run["objective"]))))
    untrained = {name: asdict(one) for name, one in measure(runs[0]["rows"], START).items()}
    points: dict[str, dict[str, Any]] = {"0": {run["objective"]: untrained for run in runs}}
    for run in runs:
        means = {name: asdict(one) for name, one in measure(run["rows"], "soft").items()}
        points.setdefault(str(run["passes"]), {})[run["objective"]] = means
    save(draw_effect(points, SHOWN, "passes of the denoiser"), HERE / "curve.png")
    fill(HERE / "README.md", "optimise-curve", to_markdown([table], ""))
    kept = [{key: run[key] for key in ("objective", "steps", "passes")} | {"gain": gain(run["rows"])} for run in runs]
    atomic_write_json(HERE / "curve.json", {"seed": given.seed, "untrained": untrained, "runs": kept})


if __name__ == "__main__":
    main()
