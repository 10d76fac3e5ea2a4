"""Analysis of a survey: win rates, utilities, ratings, attention checks, agreement of raters and with metrics."""

from __future__ import annotations

import contextlib
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
from pmg.studio.survey.observations import RATINGS, Observations, number_names

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
            "arms": {
                arm: {
                    name: {**found.value(methods.index(arm)), "n": raters, "seeds": 1}
                    for name, (methods, found) in estimates.items()
                    if arm in methods
                }
                for arm in self.comparison.order(self.methods)
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
                "ties": _mean(kept.pairs["score"] == 0.5),
                "left_wins": _mean(kept.pairs["score"]),
                "median_seconds": float(kept.seconds["seconds"].median()) if len(kept.seconds) else None,
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
        rows = kept.rows
        for name in ("win_rate", *RATINGS):
            part = rows[rows[name].notna()] if name in rows else rows[:0]
            present = [method for method in self.methods if method in set(part["method"])]
            if present:
                values = part[name].to_numpy(dtype=float)
                codes = _indices(part["method"], present), number_names(part["user"]), number_names(part["example"])
                found[name] = (present, clustered_means(values, *codes, len(present)))
        pairs = kept.pairs
        present = [method for method in self.methods if method in {*pairs["left"], *pairs["right"]}]
        if present:
            left, right, score = _indices(pairs["left"], present), _indices(pairs["right"], present), pairs["score"]
            groups = number_names(pairs["rater"]), number_names(pairs["example"])
            with contextlib.suppress(ValueError):  # utilities would be infinite
                found["utility"] = (present, bradley_terry(left, right, score.to_numpy(), *groups, len(present)))
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


def _mean(values: pd.Series) -> float | None:
    return float(values.mean()) if len(values) else None


def agreement_of_raters(observed: Observations) -> dict[str, float | None]:
    """Returns Krippendorff's alpha of comparisons (ordinal: one, tie, the other) and of both ratings.

    None where no unit was judged by two raters, or all judgements are equal.
    """
    pairs = observed.pairs
    ordered = pairs["left"] <= pairs["right"]
    score = np.where(ordered, pairs["score"], 1 - pairs["score"].astype(float))
    names = [f"{a}|{b}" for a, b in (sorted(each) for each in zip(pairs["left"], pairs["right"], strict=True))]
    units = pd.DataFrame(
        {"rater": pairs["rater"], "unit": pairs["example"] + "|" + pd.Series(names, pairs.index, dtype=object)}
    )
    found = {"comparisons": _alpha(units.assign(value=score))}
    ratings = observed.ratings
    for name in RATINGS:
        unit = ratings["example"] + "|" + ratings["method"]
        found[name] = _alpha(pd.DataFrame({"rater": ratings["rater"], "unit": unit, "value": ratings[name]}))
    return found


def _alpha(judged: pd.DataFrame) -> float | None:
    import krippendorff

    table = judged.groupby(["rater", "unit"])["value"].first().unstack() if len(judged) else pd.DataFrame()
    overlapping = table.notna().sum() > 1 if len(table) else pd.Series(dtype=bool)
    if not overlapping.any() or len(np.unique(table.loc[:, overlapping].stack().dropna())) < 2:
        return None
    return float(krippendorff.alpha(table.to_numpy(dtype=float), level_of_measurement="ordinal"))


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
    for metric in metrics:
        if metric.name not in judged.columns:
            continue
        left, right = (judged[metric.name].reindex(images).to_numpy(dtype=float) for images in shown)
        sign = np.sign((left - right) * (1 if metric.higher_is_better else -1))
        kept = np.isfinite(sign) & (sign != 0) & (chosen != 0)
        if kept.any():
            agrees = (sign == chosen)[kept].astype(float)
            groups = number_names(pairs["rater"][kept]), number_names(pairs["example"][kept])
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
    atomic_write_json(folder / "results.json", _without_nan(results))


def survey_tables(results: Mapping[str, Any]) -> list[Table]:
    """Returns tables of the raters and of their agreement with metrics."""
    found = results["survey"]
    alpha = found["krippendorff_alpha"]
    facts: dict[str, Any] = {
        "raters": found["raters"],
        "left out for failed attention checks": found["excluded"],
        "comparisons": found["comparisons"],
        "ties": found["ties"],
        "wins of the left image, ties as half": found["left_wins"],
        "median seconds of an answer": found["median_seconds"],
        **{f"Krippendorff's alpha, {name.replace('_', ' ')}": value for name, value in alpha.items()},
    }
    rows = tuple((Cell(name), Cell(_show(value))) for name, value in facts.items())
    agreement = tuple(
        (
            Cell(name),
            Cell(f"{_show(each['mean'])} [{_show(each['low'])}, {_show(each['high'])}]"),
            Cell(str(each["n"])),
        )
        for name, each in sorted(found["agreement"].items(), key=lambda item: -item[1]["mean"])
    )
    tables = [
        Table("Raters", ("what", "value"), rows),
        Table(
            "Comparisons in which a metric prefers the raters' choice", ("metric", "share", "comparisons"), agreement
        ),
    ]
    return [table for table in tables if table.rows]


def _show(value: float | None) -> str:
    return NOTHING if value is None or value != value else f"{value:.3f}" if value % 1 else f"{value:.0f}"


def _without_nan(node: Any) -> Any:
    """Returns a tree of JSON with None for what is not a number."""
    match node:
        case Mapping():
            return {name: _without_nan(value) for name, value in node.items()}
        case float() if not np.isfinite(node):
            return None
    return node
