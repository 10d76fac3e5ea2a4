"""The first sentence of a report: whether pictures fit the user whose history they were made with."""

from __future__ import annotations

import pandas as pd

from pmg.evaluation.metric_interface import MetricInfo
from pmg.evaluation.result_tables import show_p
from pmg.evaluation.statistics import Difference, paired_difference
from pmg.reporting.artifacts import Artifacts

PAIR = ["run", "user", "example", "seed"]


def answer(artifacts: Artifacts) -> str:
    """Returns a sentence on all evaluated runs; empty without pictures by another user's history.

    The metric is the first one that measures the preference.
    """
    method = artifacts.comparison.proposed
    frames = [rows.assign(run=run) for run, rows in artifacts.rows.items()]
    rows = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["method"])
    rows = rows[rows["method"] == method]
    if rows.empty:
        return ""
    own, other = (rows[rows["control"] == control].set_index(PAIR) for control in ("own", "mismatched"))
    shared = own.index.intersection(other.index)
    measured = [info for info in artifacts.metrics if not info.selects and info.name in rows and not info.per_set]
    preferring = [info for info in measured if info.aspect == "preference"] or measured
    if not len(shared) or not preferring:
        return ""
    info = preferring[0]
    pair = own.loc[shared, info.name].astype(float), other.loc[shared, info.name].astype(float)
    known = pair[0].notna() & pair[1].notna()
    one, two = (values[known] for values in pair)
    users = one.index.get_level_values("user").to_numpy()
    found = paired_difference(one.to_numpy(), two.to_numpy(), users)
    return (
        f"Pictures that {method} makes with a user's own history fit this user {_verdict(found, info)} those made "
        f"with another user's: {info.title} {one.mean():.3f} and {two.mean():.3f}, a difference of {found.mean:+.3f} "
        f"[{found.low:+.3f}, {found.high:+.3f}], {show_p(found.p)} ({len(set(users))} users, {2 * len(one)} pictures)."
    )


def _verdict(found: Difference, info: MetricInfo) -> str:
    if found.low <= 0 <= found.high:
        return "not clearly better than"
    return "better than" if (found.mean > 0) == info.higher_is_better else "worse than"
