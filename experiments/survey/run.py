"""Checks the analysis of surveys on simulated raters with known utilities: experiments/survey.

python -m experiments.survey.run
python -m experiments.survey.run --simulations 100 --into outputs/survey
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from pmg.cache import atomic_write_json
from pmg.domain import PmgError
from pmg.runs.provenance import git_state
from pmg.studio.survey.clustered import Estimates, bradley_terry
from pmg.studio.survey.design import SIDES, plan_tasks
from pmg.studio.survey.sample_size import Comparisons, Raters, SampleSize
from pmg.studio.survey.schema import SurveyDesignConfig

HERE = Path(__file__).resolve().parent
METHODS = ["a", "b", "c", "d"]
UTILITIES = (-0.9, -0.3, 0.3, 0.9)
POPULATIONS = {"alike": 0.0, "different": 0.4, "very_different": 0.8}
"""Standard deviation of utilities between raters, and between items."""
SLIP = 0.02  # share of checks that an attentive rater fails
ALLOWED = 1  # failed checks
SIZES = (0.55, 0.6, 0.65, 0.7)


def simulate(deviation: float, simulations: int, seed: int) -> dict[str, Any]:
    """Returns ranking and coverage of the intervals, clustered and not, over simulated surveys."""
    size = SurveyDesignConfig(examples=25, raters=24, pairs=24, ratings=0, checks=0)
    tasks = Comparisons.of(plan_tasks(size, METHODS), METHODS)
    raters = Raters(UTILITIES, deviation, deviation)
    truth = raters.population_utilities(tasks)
    scores = raters.scores(tasks, simulations, np.random.default_rng(seed))
    fits, refused = [], 0
    for score in scores:
        try:
            fits.append(bradley_terry(tasks.left, tasks.right, score, tasks.raters, tasks.items, len(METHODS)))
        except (ValueError, PmgError):
            refused += 1
    rows = np.arange(len(tasks.left))
    alone = [
        bradley_terry(tasks.left, tasks.right, score, rows, rows, len(METHODS)) for score in scores[: simulations // 4]
    ]
    return {
        "true_utilities": list(UTILITIES),
        "population_utilities": truth.tolist(),
        "mean_estimate": np.mean([fit.values for fit in fits], axis=0).tolist(),
        "ranking_right": float(np.mean([bool(np.all(np.diff(fit.values) > 0)) for fit in fits])),
        "coverage_by_method": coverage(fits, truth).tolist(),
        "coverage": float(coverage(fits, truth).mean()),
        "coverage_without_clusters": float(coverage(alone, truth).mean()),
        "refused": refused,
        "comparisons": len(tasks.left),
    }


def coverage(fits: list[Estimates], truth: np.ndarray) -> np.ndarray:
    """Returns the share of intervals that include the truth, `(K,)`."""
    limits = [[fit.value(method) for method in range(len(truth))] for fit in fits]
    inside = [[each["low"] <= true <= each["high"] for each, true in zip(fit, truth, strict=True)] for fit in limits]
    return np.mean(inside, axis=0)


def simulate_attention(simulations: int, seed: int) -> dict[str, float]:
    """Returns the shares of random clickers, of raters who always choose one side, and of attentive ones, left out."""
    rng, checks = np.random.default_rng(seed), SurveyDesignConfig().checks
    plan = plan_tasks(SurveyDesignConfig(examples=25, raters=30), METHODS)
    expected = [[SIDES.index(task.expected) for task in tasks if task.kind == "check"] for tasks in plan]
    answers = np.array(expected)[rng.integers(len(plan), size=simulations)]
    clicked = rng.integers(len(SIDES), size=(simulations, checks))
    sided = np.repeat(rng.integers(len(SIDES), size=(simulations, 1)), checks, axis=1)
    attentive = np.where(rng.random((simulations, checks)) < SLIP, (answers + 1) % len(SIDES), answers)
    named = {"random_clicker": clicked, "one_side": sided, "attentive": attentive}
    return {name: float(((given != answers).sum(axis=1) > ALLOWED).mean()) for name, given in named.items()}


def main() -> None:
    """Writes results.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--into", type=Path, default=HERE)
    options = parser.parse_args()
    start = time.perf_counter()
    found = {
        name: simulate(deviation, options.simulations, options.seed + number)
        for number, (name, deviation) in enumerate(POPULATIONS.items())
    }
    results = {
        "populations": found,
        "left_out": simulate_attention(options.simulations, options.seed),
        "raters_for_power_0.8": {str(rate): SampleSize(rate, seed=options.seed).find()[0] for rate in SIZES},
        "simulations": options.simulations,
        "seconds": round(time.perf_counter() - start, 1),
        "revision": (git_state() or {}).get("revision"),
    }
    atomic_write_json(options.into / "results.json", results)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
