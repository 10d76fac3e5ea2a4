"""Analysis of a survey: win rates, utilities, ratings, attention checks, agreement of raters and with metrics."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pmg.cache import atomic_write_json, atomic_write_text
from pmg.domain import PmgError
from pmg.evaluation.comparison import Comparison
from pmg.evaluation.metric_interface import MetricInfo, describe, read_infos
from pmg.evaluation.result_tables import ResultTables
from pmg.evaluation.results import write_rows
from pmg.evaluation.table_rendering import NOTHING, Cell, Table, to_markdown
from pmg.studio.survey.clustered import Estimates, bradley_terry, clustered_means
from pmg.studio.survey.observations import RATINGS, Observations

METRICS = (
    MetricInfo("win_rate", "wins", range=(0.0, 1.0), aspect="preference"),
    MetricInfo("utility", "utility (Bradley-Terry)"),
    MetricInfo("accuracy_rating", "rated accuracy", range=(1.0, 5.0), aspect="accuracy", digits=2),
    MetricInfo("preference_rating", "rated preference", range=(1.0, 5.0), digits=2),
)
FOOTNOTE = (
    "Mean [95 % interval, clustered by rater and item]. wins: share of comparisons with any other method that an "
    "image won, a tie as half; utility: of the Bradley-Terry model, sum zero."
)


@dataclass(frozen=True)
class Analysis:
    """Computes the results of a survey; raters who fail more than `allowed_failures` attention checks are left out."""

    methods: Sequence[str]
    comparison: Comparison = field(default_factory=Comparison)
    allowed_failures: int = 1

    def build(
        self, observed: Observations, rows: pd.DataFrame | None = None,
        metrics: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Returns results in the form of all studies, with the section ``survey``; PmgError if no rater is left.

        `rows` are `shown_rows` of an evaluation, whose metrics (the section ``metrics`` of its ``results.json``) are
        compared with the raters; None: there is none.
        """
        attention = self.attention(observed)
        failed = [rater for rater, found in attention.items() if found["excluded"]]
        kept = observed.without(failed)
        if not len(kept.pairs) and not len(kept.ratings):
            raise PmgError(
                f"no answers are left: {len(failed)} of {len(attention)} raters failed the attention checks"
            )
        estimates, raters = self._estimates(kept), len({*kept.pairs["rater"], *kept.ratings["rater"]})
        return {
            "metrics": describe(METRICS),
            "comparison": self.comparison.as_dict(),
            "methods": {
                method: {
                    name: {**found.value(methods.index(method)), "n": raters, "seeds": 1}
                    for name, (methods, found) in estimates.items()
                    if method in methods
                }
                for method in self.comparison.order(self.methods)
            },
            "paired": self._paired(estimates),
            "control": {},
            "groups": {},
            "gap_closed": {self.comparison.gap_metric: {}},
            "survey": {
                "raters": raters,
                "excluded": len(failed),
                "attention": attention,
                "comparisons": len(kept.pairs),
                "ties": float((kept.pairs["score"] == 0.5).mean()),
                "left_wins": float(kept.pairs["score"].mean()),
                "median_seconds": float(kept.seconds["seconds"].median()),
                "krippendorff_alpha": agreement_of_raters(kept),
                "agreement": agreement_with_metrics(kept.pairs, rows, read_infos(metrics or {})),
            },
        }

    def attention(self, observed: Observations) -> dict[str, dict[str, Any]]:
        """Returns for each rater the numbers of checks and failures, and whether the rater is left out."""
        found = {}
        for rater in dict.fromkeys([*observed.checks["rater"], *observed.pairs["rater"], *observed.ratings["rater"]]):
            passed = observed.checks.loc[observed.checks["rater"] == rater, "passed"]
            failures = int((~passed.astype(bool)).sum())
            found[rater] = {"checks": len(passed), "failures": failures, "excluded": failures > self.allowed_failures}
        return found

    def _estimates(self, kept: Observations) -> dict[str, tuple[list[str], Estimates]]:
        """Returns methods and their values by metric."""
        found = {}
        rows, pairs = kept.rows, kept.pairs
        for name in ("win_rate", *RATINGS):
            part = rows.dropna(subset=name)
            if present := [method for method in self.methods if method in set(part["method"])]:
                codes = _indices(part["method"], present), *_clusters(part["user"], part["example"])
                found[name] = present, clustered_means(part[name].to_numpy(dtype=float), *codes, len(present))
        if present := [method for method in self.methods if method in {*pairs["left"], *pairs["right"]}]:
            shown = _indices(pairs["left"], present), _indices(pairs["right"], present), pairs["score"].to_numpy()
            with contextlib.suppress(ValueError):  # utilities would be infinite
                groups = _clusters(pairs["rater"], pairs["example"])
                found["utility"] = present, bradley_terry(*shown, *groups, len(present))
        return found

    def _paired(self, estimates: Mapping[str, tuple[list[str], Estimates]]) -> dict[str, dict[str, Any]]:
        paired: dict[str, dict[str, Any]] = {}
        for a, b in self.comparison.pairs(self.comparison.order(self.methods)):
            for name, (methods, found) in estimates.items():
                if found.freedom and a in methods and b in methods:
                    weights = np.eye(len(methods))
                    contrast = found.contrast(weights[methods.index(a)] - weights[methods.index(b)])
                    paired.setdefault(f"{a}-{b}", {})[name] = contrast
        return paired


def _indices(names: pd.Series, order: Sequence[str]) -> np.ndarray:
    return names.map({name: number for number, name in enumerate(order)}).to_numpy(dtype=int)


def _clusters(raters: pd.Series, items: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Returns numbers in place of names, in the order of their first occurrence."""
    return pd.factorize(raters)[0], pd.factorize(items)[0]


def agreement_of_raters(observed: Observations) -> dict[str, float | None]:
    """Returns Krippendorff's alpha of comparisons (ordinal: one, tie, the other) and of both ratings.

    None where no unit was judged by two raters, or all judgements are equal.
    """
    pairs, ratings = observed.pairs, observed.ratings
    ordered, score = pairs["left"] <= pairs["right"], pairs["score"].astype(float)
    first, second = (pairs[a].where(ordered, pairs[b]) for a, b in (("left", "right"), ("right", "left")))
    units = pairs["example"] + "|" + first + "|" + second
    rated = ratings["example"] + "|" + ratings["method"]
    return {
        "comparisons": _alpha(pairs["rater"], units, score.where(ordered, 1 - score)),
        **{name: _alpha(ratings["rater"], rated, ratings[name]) for name in RATINGS},
    }


def _alpha(raters: pd.Series, units: pd.Series, values: pd.Series) -> float | None:
    import krippendorff

    judged = pd.DataFrame({"rater": raters, "unit": units, "value": values.astype(float)})
    table = judged.groupby(["rater", "unit"])["value"].first().unstack().to_numpy()
    overlapping = table[:, np.isfinite(table).sum(0) > 1]
    if len(np.unique(overlapping[np.isfinite(overlapping)])) < 2:
        return None
    return float(krippendorff.alpha(table, level_of_measurement="ordinal"))


def shown_rows(rows: pd.DataFrame, images: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Returns an evaluation's rows of the images that a survey shows; PmgError if one of them is missing.

    Of each of these `images`, ``example``, ``method`` and ``seed`` are given.
    """
    keys = ["example", "method", "seed"]
    shown = pd.DataFrame(images, columns=keys).drop_duplicates()
    found = shown.merge(rows[rows["control"] == "own"], on=keys, how="left", indicator=True)
    missing = found[found["_merge"] == "left_only"]
    if len(missing):
        first = missing.iloc[0]
        raise PmgError(
            f"evaluation: it has no image of example '{first['example']}' by '{first['method']}' with seed "
            f"{first['seed']}, which the survey shows. Name the evaluation of the survey's generate_run"
        )
    return found.drop(columns="_merge")


def agreement_with_metrics(
    pairs: pd.DataFrame, rows: pd.DataFrame | None, metrics: Sequence[MetricInfo]
) -> dict[str, dict[str, Any]]:
    """Returns how often the image that raters prefer is the one that a metric prefers, 0.5 by chance.

    Comparisons without a preference, of a rater or of a metric, are left out. `rows` are `shown_rows`; None: there are
    none. By metric there are mean, interval, p-value (of 0.5) and number of comparisons.
    """
    if rows is None or not len(pairs):
        return {}
    judged = rows.set_index(["example", "method"])
    shown = [pd.MultiIndex.from_arrays([pairs["example"], pairs[side]]) for side in ("left", "right")]
    chosen = np.sign(pairs["score"].to_numpy(dtype=float) - 0.5)
    found = {}
    for metric in (metric for metric in metrics if metric.name in judged):
        left, right = (judged[metric.name].reindex(images).to_numpy(dtype=float) for images in shown)
        sign = np.sign((left - right) * (1 if metric.higher_is_better else -1))
        kept = np.isfinite(sign) & (sign != 0) & (chosen != 0)
        if kept.any():
            agrees = (sign == chosen)[kept].astype(float)
            groups = _clusters(pairs["rater"][kept], pairs["example"][kept])
            every = np.zeros(len(agrees), dtype=int)
            centred = clustered_means(agrees - 0.5, every, *groups, 1).contrast(np.ones(1))
            shifted = {name: centred[name] + 0.5 for name in ("mean", "low", "high")}
            found[metric.name] = {**shifted, "p": centred["p"], "n": len(agrees)}
    return found


def write_analysis(folder: Path, results: Mapping[str, Any], observed: Observations) -> None:
    """Writes ``results.json``, ``rows.parquet`` and ``table.md``; an interval that doesn't exist is null.

    `observed` are all answers; rows are those of raters that results count.
    """
    excluded = [rater for rater, found in results["survey"]["attention"].items() if found["excluded"]]
    write_rows(folder, observed.without(excluded).rows)
    tables = ResultTables.of(results).build(results)
    atomic_write_text(folder / "table.md", to_markdown([*tables, *survey_tables(results)], FOOTNOTE))
    atomic_write_json(folder / "results.json", json.loads(json.dumps(results), parse_constant=lambda nan: None))


def survey_tables(results: Mapping[str, Any]) -> list[Table]:
    """Returns tables of the raters and of their agreement with metrics."""
    found = results["survey"]
    alphas = found["krippendorff_alpha"].items()
    facts: dict[str, Any] = {
        "raters": found["raters"],
        "left out for failed attention checks": found["excluded"],
        "comparisons": found["comparisons"],
        "ties": found["ties"],
        "wins of the left image, ties as half": found["left_wins"],
        "median seconds of an answer": found["median_seconds"],
        **{f"Krippendorff's alpha, {name.replace('_', ' ')}": value for name, value in alphas},
    }
    rows = tuple((Cell(name), Cell(_show(value))) for name, value in facts.items())
    agreement = []
    for name, each in sorted(found["agreement"].items(), key=lambda item: -item[1]["mean"]):
        mean, low, high = (_show(each[part]) for part in ("mean", "low", "high"))
        agreement.append((Cell(name), Cell(f"{mean} [{low}, {high}]"), Cell(str(each["n"]))))
    title = "Comparisons in which a metric prefers the raters' choice"
    compared = [Table(title, ("metric", "share", "comparisons"), tuple(agreement))] if agreement else []
    return [Table("Raters", ("what", "value"), rows), *compared]


def _show(value: float | None) -> str:
    return NOTHING if value is None or value != value else f"{value:.3f}" if value % 1 else f"{value:.0f}"
