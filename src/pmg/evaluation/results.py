"""Results in their one form, from per-example rows, and the files that hold them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pmg.cache import Cache, atomic_write_bytes, atomic_write_json, atomic_write_text
from pmg.domain import PmgError
from pmg.evaluation.comparison import Comparison
from pmg.evaluation.metric_interface import MetricInfo, describe
from pmg.evaluation.result_tables import ResultTables
from pmg.evaluation.statistics import interval, paired_difference, share_of_gap, swap_test, user_means
from pmg.evaluation.table_rendering import to_markdown
from pmg.runs.content import digest_file

PAIR = ["example", "seed"]  # what makes two methods' rows a pair
ROWS = "rows.parquet"
COLUMNS = ("example", "user", "method", "control", "seed")


@dataclass(frozen=True)
class ResultBuilder:
    """Computes the results of per-example rows."""

    # descriptions of the columns, in their order; a column that the rows lack is left out
    metrics: Sequence[MetricInfo]
    comparison: Comparison = field(default_factory=Comparison)  # the methods that all others are compared with
    groups: Sequence[str] = ()  # labels by which results are split, columns of the rows
    seed: int = 0  # of the resampling

    def build(self, rows: pd.DataFrame, sets: Mapping[str, Mapping] | None = None) -> dict[str, Any]:
        """Returns the results of a study, by section.

        `rows` are one an image: `COLUMNS`, `groups` and those of `metrics` that were measured, NaN where a method has
        none; `control` is ``own`` or ``mismatched``. `sets` are metrics of whole sets by name and method. PmgError if
        there are no rows, a column is missing, or a row occurs twice.

        Sections are ``metrics`` (descriptions by name) and ``comparison``; ``methods``, ``paired`` (a-b) and
        ``control`` by method and metric; ``groups`` (the same three by label and value); ``gap_closed`` (share of the
        way from baseline to oracle); ``sets`` where there are any, in the order of ``methods``.
        """
        self._check(rows)
        codes = {name: pd.factorize(rows[name], sort=True)[0] for name in ("example", "user")}
        rows = rows.assign(**codes)  # joined at a fifth of the memory that texts take
        own = rows[rows["control"] == "own"]
        methods, found = self._methods_in_order(own), sets or {}
        ordered = {
            name: {method: values[method] for method in methods if method in values} for name, values in found.items()
        }
        return {
            "metrics": describe(self.metrics),
            "comparison": self.comparison.as_dict(),
            **self._summarize(rows),
            "groups": {
                label: {str(value): self._summarize(part) for value, part in rows.groupby(label, observed=True)}
                for label in self.groups
            },
            "gap_closed": {self.comparison.gap_metric: self._gap_closed(own)},
            **({"sets": ordered} if ordered else {}),
        }

    def _check(self, rows: pd.DataFrame) -> None:
        needed = [*COLUMNS, *self.groups]
        missing = [name for name in needed if name not in rows.columns]
        if missing or rows.empty:
            raise PmgError(f"results need rows with {needed}: {len(rows)} rows, missing {missing}")
        if rows["user"].isna().any():
            raise PmgError("a row of the results has no user")
        if odd := sorted(set(rows["control"]) - {"own", "mismatched"}):
            raise PmgError(f"the control of a row is 'own' or 'mismatched', got {odd}")
        twice = rows[rows.duplicated([*PAIR, "method", "control"])]
        if len(twice):
            first = twice.iloc[0]
            raise PmgError(f"the rows hold example '{first['example']}', method '{first['method']}', twice")

    def _methods_in_order(self, rows: pd.DataFrame) -> list[str]:
        return self.comparison.order(rows["method"].unique())

    def _summarize(self, rows: pd.DataFrame) -> dict[str, dict]:
        own = rows[rows["control"] == "own"]
        return {"methods": self._methods(own), "paired": self._paired(own), "control": self._control(rows)}

    def _measured(self, frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yields each metric that `frame` holds, with the rows that have it."""
        for metric in self.metrics:
            if metric.name in frame.columns and len(part := frame[frame[metric.name].notna()]):
                yield metric.name, part

    def _methods(self, own: pd.DataFrame) -> dict[str, dict]:
        found: dict[str, dict] = {method: {} for method in self._methods_in_order(own)}
        for method, metrics in found.items():
            for name, part in self._measured(own[own["method"] == method]):
                mean = interval(part[name].to_numpy(), part["user"].to_numpy(), self.seed)
                metrics[name] = {**asdict(mean), "seeds": int(part["seed"].nunique())}
        return found

    def _compare(self, a: pd.DataFrame, b: pd.DataFrame, compute: Callable[..., dict]) -> dict[str, dict]:
        """Returns `compute(values of a, values of b, users)` for each metric that both hold."""
        names = [metric.name for metric in self.metrics if metric.name in a.columns and metric.name in b.columns]
        both = a[["user", *PAIR, *names]].merge(b[[*PAIR, *names]], on=PAIR, suffixes=("", "_b"))
        held = {name: both[[name, f"{name}_b"]].notna().all(axis=1).to_numpy() for name in names}
        columns = {column: both[column].to_numpy() for column in both.columns}
        return {
            name: compute(columns[name][some], columns[f"{name}_b"][some], columns["user"][some])
            for name, some in held.items()
            if some.any()
        }

    def _paired(self, own: pd.DataFrame) -> dict[str, dict]:
        def compute(a: np.ndarray, b: np.ndarray, users: np.ndarray) -> dict:
            """Returns the difference of a metric's values with interval and p."""
            return asdict(paired_difference(a, b, users, self.seed))

        of = {method: own[own["method"] == method] for method in own["method"].unique()}
        pairs = self.comparison.pairs(self._methods_in_order(own))
        found = {f"{a}-{b}": self._compare(of[a], of[b], compute) for a, b in pairs}
        return {pair: metrics for pair, metrics in found.items() if metrics}

    def _control(self, rows: pd.DataFrame) -> dict[str, dict]:
        def compute(own: np.ndarray, other: np.ndarray, users: np.ndarray) -> dict:
            """Returns both means and p."""
            a, b = user_means(own, users), user_means(other, users)
            return {"own": float(a.mean()), "mismatched": float(b.mean()), "p": swap_test(a, b, self.seed)}

        found = {}
        for method in self._methods_in_order(rows[rows["control"] == "mismatched"]):
            made = rows[rows["method"] == method]
            own, other = (made[made["control"] == control] for control in ("own", "mismatched"))
            found[method] = self._compare(own, other, compute)
        return {method: metrics for method, metrics in found.items() if metrics}

    def _gap_closed(self, own: pd.DataFrame) -> dict[str, dict]:
        """Returns the share of the gap that each other method closes; empty where there is no gap."""
        name, ends = self.comparison.gap_metric, (self.comparison.baseline, self.comparison.oracle)
        if name not in own.columns or not set(ends) <= set(own["method"]):
            return {}
        table = own.pivot(index=["user", *PAIR], columns="method", values=name)
        found = {}
        for method in self._methods_in_order(own):
            whole = table[[ends[0], method, ends[1]]].dropna() if method not in ends else table[:0]
            if len(whole) and method not in self.comparison.references:
                baseline, values, oracle = (whole[name].to_numpy() for name in (ends[0], method, ends[1]))
                users = whole.index.get_level_values("user").to_numpy()
                found[method] = asdict(share_of_gap(baseline, values, oracle, users, self.seed))
        return {method: share for method, share in found.items() if all(map(math.isfinite, share.values()))}


def write_results(folder: str | Path, results: Mapping[str, Any], rows: pd.DataFrame) -> None:
    """Writes ``results.json``, ``rows.parquet`` and ``table.md`` into `folder`, each whole or not at all."""
    write_rows(folder, rows)
    tables = ResultTables.of(results)
    atomic_write_text(Path(folder, "table.md"), to_markdown(tables.build(results), tables.footnote))
    whole = {**results, "rows": digest_file(Path(folder, ROWS))}
    # last: a folder that has it has the others
    atomic_write_json(Path(folder, "results.json"), {**whole, "digest": _digest(json.loads(json.dumps(whole)))})


def write_rows(folder: str | Path, rows: pd.DataFrame) -> None:
    """Writes ``rows.parquet`` into `folder`, whole or not at all."""
    atomic_write_bytes(Path(folder, ROWS), rows.to_parquet(index=False))


def read_results(path: str | Path, *sections: str) -> dict[str, Any]:
    """Returns what a ``results.json`` holds; PmgError if it can't be read, lacks one of `sections`, or was changed."""
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))
        missing = {"metrics", "comparison", *sections} - results.keys()
        changed = results.get("digest", "") not in ("", _digest(results))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise PmgError(f"{path} can't be read ({type(error).__name__}); pmg-evaluate writes it") from None
    if missing or changed:
        what = f"lacks {', '.join(sorted(missing))}" if missing else "was changed after it was written"
        raise PmgError(f"{path} {what}: evaluate again")
    return dict(results)


def _digest(results: Mapping[str, Any]) -> str:
    return Cache.key(results={key: value for key, value in results.items() if key != "digest"})


def read_rows(folder: str | Path, digest: str | None = None) -> pd.DataFrame:
    """Returns the rows that `write_rows` wrote.

    PmgError if they are missing, damaged, or not of the `digest` that ``results.json`` has of them; None: of any.
    """
    path = Path(folder, ROWS)
    try:
        if digest not in (None, digest_file(path)):
            raise PmgError(f"{path} holds other rows than the results.json beside it: evaluate again")
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise PmgError(f"{path} can't be read ({type(error).__name__}): remove its folder, evaluate again") from error
