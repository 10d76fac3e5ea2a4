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
from omegaconf import DictConfig, OmegaConf

from pmg.natural_order import natural_key
from pmg.orchestration import search, sweep_jobs
from pmg.runs.run_folder import METRICS_FILE

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
        """How it stands; one that says it runs when the sweep has ended was killed, or a cluster still has it."""
        return "unfinished" if self.metrics["status"] == "running" else self.metrics["status"]

    @property
    def process(self) -> int:
        """The number of the process that runs it, on whatever machine; 0 where it is unknown."""
        return self.metrics.get("process", 0)


class SweepSummary(Callback):
    """Hydra calls it around a sweep; all that it tells is read from the jobs' folders, whatever ran them."""

    current: ClassVar[DictConfig | None] = None
    failed: ClassVar[bool] = False

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Remembers the sweep: Hydra says nothing at the end of one that failed or was interrupted."""
        SweepSummary.current = config
        search.go_on(config)
        if config.hydra.launcher._target_.endswith(".RayLauncher"):
            sweep_jobs.join_ray(OmegaConf.to_container(config.hydra.launcher.ray.init, resolve=True))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Shows the table."""
        SweepSummary.current = None
        SweepSummary.failed = summarize(config)

    @classmethod
    def close(cls) -> bool:
        """Shows the table of a sweep that failed or was interrupted; returns whether any job of a sweep failed."""
        if cls.current is not None:
            cls.failed = summarize(cls.current)
            cls.current = None
        return cls.failed

    @classmethod
    def stop(cls) -> None:
        """Interrupts the jobs that a launcher runs in other processes of this machine, and lets them save."""
        if cls.current is not None:
            folder, command = Path(cls.current.hydra.sweep.dir), cls.current.hydra.job.name
            if "Slurm" in cls.current.hydra.launcher._target_:
                print(f"SLURM's jobs go on; before you run this again: scancel {_submitted(folder)}", file=sys.stderr)
            sweep_jobs.stop(lambda: {job.process for job in find_jobs(folder, command) if job.status == "unfinished"})


def summarize(config: DictConfig) -> bool:
    """Prints a sweep's table, and how to go on where something is missing; returns whether a job failed."""
    folder, command = Path(config.hydra.sweep.dir), config.hydra.job.name
    jobs = find_jobs(folder, command)
    if not jobs:
        return False  # it was refused before the first of them
    show(jobs, folder)
    failed, broken_off = any(job.status != "completed" for job in jobs), SweepSummary.current is not None
    if failed or broken_off:
        pinned = folder if Path(config.run_dir) == folder else None  # studies have a folder of their own
        again = rerun_command(command, sys.argv[1:], pinned)
        print(f"run only what failed or is missing: {again}", file=sys.stderr, flush=True)
    if not broken_off and (line := search.best(folder)):
        print(line, flush=True)
    if not broken_off:
        print(f"tables, figures and a page: {shlex.join(['pmg-report', str(folder)])}", flush=True)
    return failed


def _submitted(folder: Path) -> str:
    """The numbers of the arrays of jobs that submitit has given to SLURM."""
    return " ".join(sorted({path.name.partition("_")[0] for path in folder.glob(".submitit/[0-9]*")}))


def find_jobs(folder: Path, command: str) -> list[Job]:
    """The sweep's jobs that have begun, in the order of their folders; parts of a job are none."""
    jobs = []
    for path in sorted(folder.rglob(METRICS_FILE), key=lambda path: (len(path.parts), natural_key(path))):
        try:
            metrics = json.loads(path.read_text())
        except ValueError:
            metrics = {"command": command, "status": "damaged"}
        if metrics.get("command") == command and not any(path.is_relative_to(job.folder) for job in jobs):
            jobs.append(Job(path.parent, metrics))
    return jobs


def varied(jobs: Sequence[Job]) -> list[dict[str, str]]:
    """What tells the jobs apart: the overrides that not all of them have."""
    given = [dict(text.partition("=")[::2] for text in job.metrics.get("overrides", ())) for job in jobs]
    common = set.intersection(*(set(row.items()) for row in given)) if given else set()
    return [{key: value for key, value in row.items() if (key, value) not in common} for row in given]


def _short(value: str) -> str:
    """A number that a search drew, in four digits; other values as they are."""
    try:
        return f"{float(value):.4g}" if len(value) > 8 else value
    except ValueError:
        return value


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
            str(job.folder.relative_to(folder)), *(escape(_short(row.get(key, ""))) for key in keys), job.status,
            "" if result is None else f"{result:.4g}", "" if seconds is None else f"{seconds:.0f}",
            escape(" ".join(error.split())[:LONGEST]),
            style="red" if job.status != "completed" else "",
        )  # fmt: skip
    Console().print(table)


def rerun_command(command: str, arguments: Sequence[str], folder: Path | None = None) -> str:
    """The same sweep into the same folder: completed jobs are taken as they are.

    Args:
        command: the verb, e.g. ``"train"``.
        arguments: of the command line.
        folder: what `run_dir` must name; None where the sweep's folder is the same each time.
    """
    if folder is not None:
        arguments = [*(text for text in arguments if not text.startswith("run_dir=")), f"run_dir={folder}"]
    return shlex.join([f"pmg-{command}", *arguments])
