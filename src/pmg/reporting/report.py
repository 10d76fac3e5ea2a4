"""The report of a set of runs: what it holds, and its HTML page, which needs no server, no network, no other file."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pmg.evaluation.result_tables import show_p
from pmg.evaluation.statistics import paired_difference
from pmg.evaluation.table_rendering import Table
from pmg.html_document import render_document
from pmg.models.vision.pictures import data_uri
from pmg.reporting.artifacts import Artifacts, gather
from pmg.reporting.figure_selection import Picture, draw_pictures
from pmg.reporting.runs import RunFolder, read_runs
from pmg.reporting.samples import Grid, build_grids
from pmg.reporting.summary import footnote, group, problems_table, runs_table, summary_tables, tidy
from pmg.reporting.variants import Factors, find_factors
from pmg.runs.provenance import git_state

PAIR = ["run", "user", "example", "seed"]
UNCLEAR = "not clearly better than"


@dataclass(frozen=True)
class Report:
    """All that a page shows; `problems` are the runs that count in no mean, `origin` is how the page was made."""

    title: str
    answer: str
    summary: Sequence[Table]
    pictures: Sequence[Picture]
    grids: Sequence[Grid]
    runs: Table
    problems: Table
    footnote: str
    origin: Mapping[str, str]


def render(report: Report) -> str:
    """The page. Texts of runs are escaped, and its policy lets no script run but its own."""
    return render_document("pmg.reporting", "page", report=report, generator="pmg-report", data_uri=data_uri)


def build_report(paths: Sequence[Path], command: str) -> tuple[Report, pd.DataFrame]:
    """Returns what the page shows of all runs in and below `paths`, and the tidy table; PmgError as `read_runs`."""
    runs = read_runs(paths)
    factors, artifacts = find_factors(runs), gather(runs)
    groups = group(runs, factors, artifacts)
    summary = summary_tables(groups, factors, artifacts)
    report = Report(
        title=f"{len(runs)} run{'s' if len(runs) > 1 else ''}: {', '.join(path.name or str(path) for path in paths)}",
        answer=answer(artifacts), summary=summary, pictures=draw_pictures(runs, factors, artifacts, groups),
        grids=build_grids(runs, artifacts, factors), runs=runs_table(runs, factors),
        problems=problems_table(runs, artifacts), footnote=footnote(summary, artifacts),
        origin=_origin(runs, factors, command),
    )  # fmt: skip
    return report, tidy(runs, factors, artifacts)


def _origin(runs: Sequence[RunFolder], factors: Factors, command: str) -> dict[str, str]:
    state = git_state() or {}
    named = {
        "command": command,
        "code of this report": f"{state.get('revision', '')}{'+' if state.get('dirty') else ''}",
        "code of the runs": ", ".join(sorted({run.revision for run in runs if run.revision})),
        "made": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "what varies": ", ".join(factors.chosen) or "nothing but the seed",
        "what goes with it": "; ".join(f"{key}: {', '.join(same)}" for key, same in factors.same.items()),
    }
    return {name: text for name, text in named.items() if text}


def answer(artifacts: Artifacts) -> str:
    """Returns a sentence on all evaluated runs; empty without pictures by another user's history.

    The metric is the first one that measures the preference, and was measured in such pairs.
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
    for info in preferring:
        pairs = pd.DataFrame({"own": own.loc[shared, info.name], "other": other.loc[shared, info.name]}, dtype=float)
        if not (pairs := pairs.dropna()).empty:
            break
    else:
        return ""
    one, two = pairs["own"], pairs["other"]
    users = one.index.get_level_values("user").to_numpy()
    found = paired_difference(one.to_numpy(), two.to_numpy(), users)
    better = (found.mean > 0) == info.higher_is_better
    verdict = UNCLEAR if found.low <= 0 <= found.high else "better than" if better else "worse than"
    limits = f" [{found.low:+.3f}, {found.high:+.3f}]"
    if len(set(users)) == 1:  # who has no interval
        limits, verdict = "", UNCLEAR
    return (
        f"Pictures that {method} makes with a user's own history fit this user {verdict} those made with another "
        f"user's: {info.title} {one.mean():.3f} and {two.mean():.3f}, a difference of {found.mean:+.3f}{limits}, "
        f"{show_p(found.p)} ({len(set(users))} users, {2 * len(one)} pictures)."
    )
