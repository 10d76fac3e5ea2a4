"""Results in their one form, from per-example rows, and the files that hold them."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pmg.cache import atomic_write_bytes, atomic_write_json, atomic_write_text
from pmg.domain import PmgError
from pmg.evaluation.statistics import interval, paired_difference, share_of_gap, swap_test, user_means
from pmg.evaluation.tables import (
    BASE,
    GAP_METRIC,
    GOAL,
    MAIN,
    METRICS,
    PSEUDO_METHODS,
    build_tables,
    to_markdown,
)


@dataclass(frozen=True)
class Roles:
    """Which methods all others are compared with.

    Attributes:
        base: the one to improve on.
        goal: the one to reach.
        main: the one that is put forward.
    """

    base: str = BASE
    goal: str = GOAL
    main: str = MAIN


ROLES = Roles()
PAIR = ["example", "seed"]  # what makes two arms' rows a pair
ROWS = "rows.parquet"
COLUMNS = ("example", "user", "kind", "method", "control", "seed")


def build_results(
    rows: pd.DataFrame,
    revision: str | None,
    config: Mapping[str, Any],
    cost: Mapping[str, Any],
    seed: int = 0,
    roles: Roles = ROLES,
    sets: Mapping[str, Mapping] | None = None,
) -> dict[str, Any]:
    """Turns per-example rows into the results of a study.

    Args:
        rows: one generated (or pseudo-method's) image a row: `COLUMNS` and those of `METRICS` that were
            measured, NaN where a method has none; `control` is ``own`` or ``mismatched``.
        revision: of the code.
        config: what was run, JSON-able.
        cost: what it cost, JSON-able.
        seed: of the resampling.
        roles: which methods all others are compared with.
        sets: metrics of whole sets by name and method, where there are any.

    Returns:
        ``arms``, ``paired`` (a-b) and ``control`` by arm and metric, ``kinds`` (arms and paired of each kind
        of taste), ``gap_closed`` (share of the way from base to goal), cost, revision and config; ``sets`` where
        there are any, methods in the order of the arms.

    Raises:
        PmgError: there are no rows, a column is missing, or a row stands twice.
    """
    _check(rows)
    own = rows[rows["control"] == "own"]
    kinds = {kind: own[own["kind"] == kind] for kind in sorted(own["kind"].unique())}
    return {
        "arms": _arms(own, seed),
        "paired": _paired(own, seed, roles),
        "control": _control(rows, seed),
        "kinds": {
            kind: {"arms": _arms(part, seed), "paired": _paired(part, seed, roles)} for kind, part in kinds.items()
        },
        "gap_closed": {GAP_METRIC: _gap_closed(own, seed, roles)},
        "cost": dict(cost),
        "revision": revision,
        "config": dict(config),
        **({"sets": {name: _ordered(own, found) for name, found in sets.items()}} if sets else {}),
    }


def _ordered(rows: pd.DataFrame, found: Mapping[str, Any]) -> dict[str, Any]:
    return {method: found[method] for method in methods_in_order(rows) if method in found}


def write_results(folder: str | Path, results: Mapping[str, Any], rows: pd.DataFrame) -> None:
    """Writes ``results.json``, ``rows.parquet`` and ``table.md`` into `folder`, each whole or not at all."""
    write_rows(folder, rows)
    atomic_write_text(Path(folder, "table.md"), to_markdown(build_tables(results)))
    atomic_write_json(Path(folder, "results.json"), results)  # last: where it stands, the others do


def write_rows(folder: str | Path, rows: pd.DataFrame) -> None:
    """Writes ``rows.parquet`` into `folder`, whole or not at all."""
    buffer = io.BytesIO()
    rows.to_parquet(buffer, index=False)
    atomic_write_bytes(Path(folder, ROWS), buffer.getvalue())


def read_rows(folder: str | Path) -> pd.DataFrame:
    """The rows that `write_rows` wrote.

    Raises:
        PmgError: they are missing or damaged.
    """
    path = Path(folder, ROWS)
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise PmgError(f"{path} can't be read ({type(error).__name__}): remove its folder, evaluate again") from error


def _check(rows: pd.DataFrame) -> None:
    missing = [name for name in COLUMNS if name not in rows.columns]
    if missing or rows.empty:
        raise PmgError(f"results need rows with {list(COLUMNS)}: {len(rows)} rows, missing {missing}")
    odd = sorted(set(rows["control"]) - {"own", "mismatched"})
    if odd:
        raise PmgError(f"the control of a row is 'own' or 'mismatched', got {odd}")
    twice = rows[rows.duplicated([*PAIR, "method", "control"])]
    if len(twice):
        first = twice.iloc[0]
        raise PmgError(f"example '{first['example']}', method '{first['method']}', stands twice in the rows")


def methods_in_order(rows: pd.DataFrame) -> list[str]:
    """Methods as readers compare them: `BASE`, the others as they appear, `MAIN`, `GOAL`, pseudo-methods."""
    places = {name: place for place, name in enumerate((MAIN, GOAL, *PSEUDO_METHODS), start=1)}
    return sorted(rows["method"].unique(), key=lambda name: -1 if name == BASE else places.get(name, 0))


def _measured(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each metric that `frame` holds, with the rows that have it."""
    for metric in METRICS:
        if metric.name in frame.columns:
            part = frame[frame[metric.name].notna()]
            if len(part):
                yield metric.name, part


def _arms(own: pd.DataFrame, seed: int) -> dict[str, dict]:
    def describe(name: str, part: pd.DataFrame) -> dict:
        found = asdict(interval(part[name].to_numpy(), part["user"].to_numpy(), seed))
        return {**found, "seeds": int(part["seed"].nunique())}

    arms = {method: own[own["method"] == method] for method in methods_in_order(own)}
    return {method: {name: describe(name, part) for name, part in _measured(arm)} for method, arm in arms.items()}


def _pairs(methods: list[str], roles: Roles) -> list[tuple[str, str]]:
    """Every arm minus the base, then the main one minus every other arm."""
    base, main = roles.base, roles.main
    real = [name for name in methods if name not in PSEUDO_METHODS]
    against_base = [(name, base) for name in real if name != base and base in real]
    against_others = [(main, name) for name in real if name not in (main, base) and main in real]
    return against_base + against_others


def _join(a: pd.DataFrame, b: pd.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values of a and b in the rows that pair up, and the users of these."""
    columns = [*PAIR, name]
    both = a[["user", *columns]].merge(b[columns], on=PAIR, suffixes=("", "_b")).dropna()
    return both[name].to_numpy(), both[f"{name}_b"].to_numpy(), both["user"].to_numpy()


def _compare(a: pd.DataFrame, b: pd.DataFrame, compute: Callable[..., dict]) -> dict[str, dict]:
    """Returns `compute(values of a, values of b, users)` for each metric that both hold."""
    joined = {name: _join(part, b, name) for name, part in _measured(a)}
    return {name: compute(*values) for name, values in joined.items() if len(values[0])}


def _paired(own: pd.DataFrame, seed: int, roles: Roles) -> dict[str, dict]:
    def compute(a: np.ndarray, b: np.ndarray, users: np.ndarray) -> dict:
        return asdict(paired_difference(a, b, users, seed))

    arm = {method: own[own["method"] == method] for method in own["method"].unique()}
    found = {f"{a}-{b}": _compare(arm[a], arm[b], compute) for a, b in _pairs(methods_in_order(own), roles)}
    return {pair: metrics for pair, metrics in found.items() if metrics}


def _control(rows: pd.DataFrame, seed: int) -> dict[str, dict]:
    def compute(own: np.ndarray, other: np.ndarray, users: np.ndarray) -> dict:
        a, b = user_means(own, users), user_means(other, users)
        return {"own": float(a.mean()), "mismatched": float(b.mean()), "p": swap_test(a, b, seed)}

    found = {}
    for method in methods_in_order(rows[rows["control"] == "mismatched"]):
        arm = rows[rows["method"] == method]
        found[method] = _compare(arm[arm["control"] == "own"], arm[arm["control"] == "mismatched"], compute)
    return {method: metrics for method, metrics in found.items() if metrics}


def _gap_closed(own: pd.DataFrame, seed: int, roles: Roles) -> dict[str, dict]:
    """Share of the gap from base to goal that each other method closes; empty where there is no gap."""
    base, goal = roles.base, roles.goal
    if GAP_METRIC not in own.columns or not {base, goal} <= set(own["method"]):
        return {}
    table = own.pivot(index=["user", *PAIR], columns="method", values=GAP_METRIC)
    found = {}
    for method in methods_in_order(own):
        if method in (base, goal, *PSEUDO_METHODS):
            continue
        whole = table[[base, method, goal]].dropna()
        if len(whole):
            columns = [whole[name].to_numpy() for name in (base, method, goal)]
            share = share_of_gap(*columns, whole.index.get_level_values("user").to_numpy(), seed)
            found[method] = asdict(share)
    return {method: share for method, share in found.items() if all(map(math.isfinite, share.values()))}
