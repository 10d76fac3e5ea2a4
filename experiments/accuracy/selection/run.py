"""Records what choosing among candidates gains (`pmg-study experiment=selection`) in experiments/accuracy/selection.

python -m experiments.accuracy.selection.run
python -m experiments.accuracy.selection.run --runs outputs/studies/selection --into experiments/accuracy/selection

Each run drew one candidate of every example, from its own noise. Validation users give the mean and deviation of the
scores, and alpha; test users are reported, also for the alpha that commands have.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pmg.evaluation.metric_interface import read_infos
from pmg.evaluation.statistics import interval, paired_difference
from pmg.generation.selection import WeightedScores
from pmg.reporting.study_pages import format_interval, to_markdown_table, write_study
from pmg.runs.provenance import git_state

STUDY = "selection"
COUNTS = (1, 2, 4, 8)
ALPHAS = tuple(number / 10 for number in range(11))
GUIDE = "lpips_truth"  # what the best possible choice is chosen by
AIMS = ["style_accuracy", "concept_accuracy"]  # alpha on validation users is chosen by their sum
Choose = Callable[[pd.DataFrame], Tensor]  # candidates to scores, of which the highest is kept


@dataclass(frozen=True)
class NormalCalibration:
    """Scores as shares of other images with a lower cosine, by a normal distribution function of each."""

    preference_mean: float
    preference_deviation: float
    accuracy_mean: float
    accuracy_deviation: float

    def __call__(self, d_p: Tensor, d_t: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the shares, in (0, 1)."""
        return (
            torch.special.ndtr((d_p.double() - self.preference_mean) / self.preference_deviation).float(),
            torch.special.ndtr((d_t.double() - self.accuracy_mean) / self.accuracy_deviation).float(),
        )


def read_candidates(runs: Path, split: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Returns the rows of all runs of a split, own preference alone, and the results of one run."""
    frames = []
    for path in sorted(runs.glob(f"split={split},seed=*/results.json")):
        result = json.loads(path.read_text())
        frames.append(pd.read_parquet(path.parent / "rows.parquet").assign(draw=result["config"]["seed"]))
    if not frames:
        raise SystemExit(f"{runs} holds no finished run of split={split}; run: pmg-study experiment={STUDY}")
    rows = pd.concat(frames, ignore_index=True)
    require_draws(rows["draw"], max(rows["draw"]) + 1, f"{runs} (split={split})", f"pmg-study experiment={STUDY}")
    return rows[(rows["method"] == "pmg_paper") & (rows["control"] == "own")], result


def require_draws(found: Iterable[int], count: int, where: str, command: str) -> None:
    """Raises SystemExit unless there are all draws below `count`: rows of them are taken for candidates of one call.

    Args:
        found: the draws that there are.
        count: of those that there must be, from 0.
        where: whose they are.
        command: what makes them.
    """
    if missing := sorted(set(range(count)) - set(found)):
        raise SystemExit(f"{where} has no finished run of seed {', '.join(map(str, missing))}; run again: {command}")


def scores(rows: pd.DataFrame) -> tuple[Tensor, Tensor]:
    """Returns d_p and d_t of candidates, `(N,)` each."""
    return (torch.tensor(rows[f"selection_{name}"].to_numpy()) for name in ("preference", "accuracy"))


def calibrate(rows: pd.DataFrame) -> NormalCalibration:
    """Returns the calibration by the scores of all candidates."""
    d_p, d_t = scores(rows)
    return NormalCalibration(float(d_p.mean()), float(d_p.std()), float(d_t.mean()), float(d_t.std()))


def rules(calibration: NormalCalibration, alphas: Mapping[str, float]) -> dict[str, Choose]:
    """Returns the ways to choose by name."""
    return {
        "z": lambda rows: WeightedScores()(*scores(rows), alphas["z"]),
        "calibrated z": lambda rows: WeightedScores()(*calibration(*scores(rows)), alphas["calibrated z"]),
        "best possible": lambda rows: -torch.tensor(rows[GUIDE].to_numpy()),
    }


def keep_best(rows: pd.DataFrame, count: int, choose: Choose) -> pd.DataFrame:
    """Returns the kept candidates: of each example one of the first `count` draws, one of the next, and so on."""
    ranked = rows.assign(rank=choose(rows).numpy(), part=rows["draw"] // count)
    ranked = ranked[ranked["part"] < ranked["draw"].nunique() // count]
    return ranked.loc[ranked.groupby(["example", "part"])["rank"].idxmax()]


def example_means(rows: pd.DataFrame, metric: str) -> pd.Series:
    """Returns the metric of each example, averaged over its kept candidates."""
    return rows.groupby(["user", "example"])[metric].mean()


def find_alpha(rows: pd.DataFrame, calibration: NormalCalibration, rule: str) -> float:
    """Returns the alpha by which the best of four have the largest sum of `AIMS`."""
    reached = {
        alpha: keep_best(rows, 4, rules(calibration, {"z": alpha, "calibrated z": alpha})[rule])[AIMS].mean().sum()
        for alpha in ALPHAS
    }
    return max(reached, key=reached.__getitem__)


def measure(rows: pd.DataFrame, metrics: list[str], chosen: Mapping[str, Choose]) -> dict[str, Any]:
    """Returns means with intervals, and paired differences to one candidate, by rule and number of candidates."""
    found: dict[str, Any] = {}
    for name, choose in chosen.items():
        for count in (count for count in COUNTS if count <= rows["draw"].nunique()):
            kept = keep_best(rows, count, choose)
            cells = found.setdefault(name, {}).setdefault(str(count), {})
            for metric in metrics:
                values, first = example_means(kept, metric), example_means(rows, metric)
                users = values.index.get_level_values("user").to_numpy()
                first = first.reindex(values.index)
                known = np.isfinite(values.to_numpy()) & np.isfinite(first.to_numpy())
                arguments = (values.to_numpy()[known], first.to_numpy()[known], users[known])
                cells[metric] = {
                    "mean": asdict(interval(arguments[0], users[known])),
                    "difference": asdict(paired_difference(*arguments)),
                }
    return found


def to_table(found: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """Returns a row a rule and number of candidates."""
    head = ["kept by", "of", *(text for title in titles.values() for text in (title, "minus one candidate"))]
    rows = []
    for name, counts in found.items():
        for count, cells in counts.items():
            texts = []
            for metric in titles:
                gain = format_interval(cells[metric]["difference"], "+") if count != "1" else ""
                texts += [f"{cells[metric]['mean']['mean']:.3f}", gain]
            rows.append([name, count, *texts])
    return to_markdown_table(head, rows)


def main(runs: Path, into: Path) -> None:
    """Writes results.json and table.md, and the table into the README there."""
    validation, _ = read_candidates(runs, "validation")
    test, result = read_candidates(runs, "test")
    infos = {info.name: info for info in read_infos(result["metrics"])}
    titles = {name: info.title for name, info in infos.items() if not info.selects and name in test}
    calibration = calibrate(validation)
    alphas = {rule: find_alpha(validation, calibration, rule) for rule in ("z", "calibrated z")}
    default = result["config"]["balance"]["alpha"]
    chosen = rules(calibration, alphas) | {f"z, alpha {default}": rules(calibration, {**alphas, "z": default})["z"]}
    found = measure(test, list(titles), chosen)
    record = {
        "revision": (git_state() or {}).get("revision"), "calibration": asdict(calibration), "alphas": alphas,
        "users": {"validation": validation["user"].nunique(), "test": test["user"].nunique()}, "rules": found,
        "config": result["config"],
    }  # fmt: skip
    table = to_table(found, titles)
    write_study(into, STUDY, record, table)
    print(table, json.dumps({"calibration": asdict(calibration), "alphas": alphas}, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("outputs/studies") / STUDY)
    parser.add_argument("--into", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    main(options.runs, options.into)
