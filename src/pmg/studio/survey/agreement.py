"""Agreement of a survey's raters with each other and with metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pmg.domain import PmgError
from pmg.evaluation.metric_interface import MetricInfo
from pmg.studio.survey.clustered import clustered_means
from pmg.studio.survey.observations import RATINGS, Observations, number_names


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
    if not overlapping.any() or len(np.unique(table.loc[:, overlapping].stack())) < 2:
        return None
    return float(krippendorff.alpha(table.to_numpy(dtype=float), level_of_measurement="ordinal"))


def shown_rows(rows: pd.DataFrame, images: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Returns the rows of the images that a survey shows.

    Args:
        rows: of an evaluation.
        images: ``example``, ``method`` and ``seed`` of each.

    Raises:
        PmgError: one of them was not evaluated.
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

    Comparisons without a preference, of a rater or of a metric, are left out.

    Args:
        pairs: see `Observations`.
        rows: `shown_rows` of an evaluation; None: there is none.
        metrics: their descriptions.

    Returns:
        Mean, interval, p-value (of 0.5) and number of comparisons by metric.
    """
    if rows is None or not len(pairs):
        return {}
    judged = rows.set_index(["example", "method"])
    found = {}
    for metric in metrics:
        if metric.name not in judged.columns:
            continue
        values = [_lookup(judged[metric.name], pairs["example"], pairs[side]) for side in ("left", "right")]
        sign = np.sign((values[0] - values[1]) * (1 if metric.higher_is_better else -1))
        chosen = np.sign(pairs["score"].to_numpy(dtype=float) - 0.5)
        kept = np.isfinite(sign) & (sign != 0) & (chosen != 0)
        if kept.any():
            agrees = (sign == chosen)[kept].astype(float)
            groups = number_names(pairs["rater"][kept]), number_names(pairs["example"][kept])
            found[metric.name] = _against_chance(agrees, *groups)
    return found


def _against_chance(agrees: np.ndarray, raters: np.ndarray, items: np.ndarray) -> dict[str, Any]:
    centred = clustered_means(agrees - 0.5, np.zeros(len(agrees), dtype=int), raters, items, 1).contrast(np.ones(1))
    shifted = {name: centred[name] + 0.5 for name in ("mean", "low", "high")}
    return {**shifted, "p": centred["p"], "n": len(agrees)}


def _lookup(values: pd.Series, examples: pd.Series, methods: pd.Series) -> np.ndarray:
    return values.reindex(pd.MultiIndex.from_arrays([examples, methods])).to_numpy(dtype=float)
