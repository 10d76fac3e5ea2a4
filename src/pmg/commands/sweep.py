"""The end of a sweep: a table of its jobs, and the command that runs what failed or is missing."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from pmg.run import METRICS_FILE

LONGEST = 60  # characters of an error in the table


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        folder: its run folder.
        metrics: its ``metrics.json``.
    """

    folder: Path
    metrics: dict[str, Any]

    @property
    def status(self) -> str:
        """How it stands; a job that says it runs when the sweep has ended was killed."""
        return "killed" if self.metrics["status"] == "running" else self.metrics["status"]


class SweepSummary(Callback):
    """Hydra calls it around a sweep; all that it tells is read from the jobs' folders, whatever ran them."""

    current: ClassVar[DictConfig | None] = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Remembers the sweep: Hydra says nothing at the end of one that failed or was interrupted."""
        SweepSummary.current = config

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Shows the table."""
        SweepSummary.current = None
        summarize(config)

    @classmethod
    def close(cls) -> None:
        """Shows the table of a sweep that failed or was interrupted; nothing where it ended well, or there is none."""
        if cls.current is not None:
            summarize(cls.current)
            cls.current = None


def summarize(config: DictConfig) -> None:
    """Prints a sweep's table, and how to go on where something is missing."""
    folder, command = Path(config.hydra.sweep.dir), config.hydra.job.name
    jobs = find_jobs(folder, command)
    if not jobs:
        return  # it was refused before the first of them
    show(jobs, folder)
    if any(job.status != "completed" for job in jobs) or SweepSummary.current is not None:
        again = rerun_command(command, list(config.hydra.overrides.task), sys.argv[1:], folder)
        print(f"run only what failed or is missing: {again}", file=sys.stderr, flush=True)


def find_jobs(folder: Path, command: str) -> list[Job]:
    """The sweep's jobs that have begun, in the order of their folders; parts of a job are none."""
    jobs = []
    for path in sorted(folder.rglob(METRICS_FILE), key=lambda path: (len(path.parts), _natural(path))):
        try:
            metrics = json.loads(path.read_text())
        except ValueError:
            metrics = {"command": command, "status": "damaged"}
        if metrics.get("command") == command and not any(path.is_relative_to(job.folder) for job in jobs):
            jobs.append(Job(path.parent, metrics))
    return jobs


def _natural(path: Path) -> list[Any]:
    """Sorts ``10`` behind ``9``."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in path.parts]


def varied(jobs: Sequence[Job]) -> list[dict[str, str]]:
    """What tells the jobs apart: the overrides that not all of them have."""
    given = [dict(text.partition("=")[::2] for text in job.metrics.get("overrides", ())) for job in jobs]
    common = set.intersection(*(set(row.items()) for row in given)) if given else set()
    return [{key: value for key, value in row.items() if (key, value) not in common} for row in given]


def show(jobs: Sequence[Job], folder: Path) -> None:
    """Prints one row a job."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{len(jobs)} jobs in {folder}", title_justify="left", header_style="dim")
    rows = varied(jobs)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    for name in ("job", *keys, "status", "result", "seconds", "error"):
        table.add_column(name, overflow="fold")
    for job, row in zip(jobs, rows, strict=True):
        result, error = job.metrics.get("result"), job.metrics.get("error") or ""
        seconds = job.metrics.get("ledger", {}).get("seconds", {}).get("total")
        table.add_row(
            str(job.folder.relative_to(folder)), *(escape(row.get(key, "")) for key in keys), job.status,
            "" if result is None else f"{result:.4g}", "" if seconds is None else f"{seconds:.0f}",
            escape(" ".join(error.split())[:LONGEST]),
            style="red" if job.status != "completed" else "",
        )  # fmt: skip
    Console().print(table)


def rerun_command(command: str, overrides: Sequence[str], arguments: Sequence[str], folder: Path) -> str:
    """The same sweep into the same folder: completed jobs are taken as they are."""
    flags = [argument for argument in arguments if argument.startswith("-")]
    return shlex.join([f"pmg-{command}", *flags, *_pinned(overrides, folder)])


def _pinned(overrides: Sequence[str], folder: Path) -> list[str]:
    kept = [text for text in overrides if not text.startswith("run_dir=")]
    own = any(text.startswith(("experiment=", "hydra.sweep.dir=")) for text in overrides)
    return kept if own else [*kept, f"run_dir={folder}"]  # an experiment's sweep has a folder of its own
