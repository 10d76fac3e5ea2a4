"""Sweeps: a table of their jobs, the command that reruns failed and missing ones, and resumed Optuna studies."""

from __future__ import annotations

import shlex
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from pmg.configuration.instantiate import to_plain
from pmg.configuration.schemas import find_schemas
from pmg.domain import PmgError
from pmg.orchestration import sweep_jobs
from pmg.orchestration.command_lines import override
from pmg.paths import natural_key
from pmg.runs.owned_folders import refuse_sweep
from pmg.runs.run_folder import METRICS_FILE, read_json

BEST_FILE = "optimization_results.yaml"
MAX_ERROR_LENGTH = 200  # characters of an error in the table: the way out is at its end


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep: its run folder and its ``metrics.json``."""

    folder: Path
    metrics: dict[str, Any]

    @property
    def status(self) -> str:
        """The status; a job marked ``running`` after the end of the sweep was killed, or is queued on a cluster."""
        status = str(self.metrics.get("status", "damaged"))
        return "unfinished" if status == "running" else status


@dataclass(frozen=True)
class Sweep:
    """A sweep of this process."""

    folder: Path  # with a folder for each job
    command: str  # the verb
    launcher: str  # dotted name of Hydra's launcher
    pinned: Path | None  # value of `run_dir` that a repetition needs; None: the folder is the same each time
    begun: float  # when it began, in seconds of the epoch


class SweepSummary(Callback):
    """Hydra callback that summarises a sweep from the folders of its jobs, which every launcher writes alike."""

    current: ClassVar[Sweep | None] = None
    failed: ClassVar[bool] = False

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Stores the sweep: Hydra doesn't call `on_multirun_end` after a failure or an interruption."""
        HydraConfig.instance().set_config(config)  # an experiment's folder may name the command: ${hydra:job.name}
        folder = Path(config.hydra.sweep.dir)
        try:
            refuse_study(config)
            refuse_sweep(folder)
            refuse_run_dir(config.run_dir, folder, config.hydra.overrides.task)
        except PmgError as error:  # Hydra warns of errors in callbacks, and goes on
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(1) from error
        pinned = folder if Path(config.run_dir) == folder else None  # studies have a folder of their own
        launcher = config.hydra.launcher._target_
        SweepSummary.current = Sweep(folder, config.hydra.job.name, launcher, pinned, time.time())
        resume_study(config)
        if launcher.endswith(".RayLauncher"):
            sweep_jobs.init_ray(to_plain(config.hydra.launcher.ray.init))

    def on_multirun_end(self, **_: Any) -> None:
        """Prints the table."""
        sweep, SweepSummary.current = SweepSummary.current, None
        SweepSummary.failed = sweep is not None and summarize(sweep)

    @classmethod
    def close(cls) -> bool:
        """Prints the table of a failed or interrupted sweep; returns whether any job failed."""
        if cls.current is not None:
            cls.failed = summarize(cls.current)
            cls.current = None
        return cls.failed

    @classmethod
    def stop(cls) -> None:
        """Interrupts the jobs in other processes of this machine and waits until they have saved."""
        if (sweep := cls.current) is not None:
            if "Slurm" in sweep.launcher:
                ids = " ".join(sorted({path.name.partition("_")[0] for path in sweep.folder.glob(".submitit/[0-9]*")}))
                print(f"SLURM still runs the jobs; before a rerun: scancel {ids}", file=sys.stderr)
            sweep_jobs.interrupt_jobs(
                lambda: {
                    job.metrics.get("process", 0)  # its id on the job's own machine
                    for job in find_jobs(sweep.folder, sweep.command)
                    if job.status == "unfinished"
                }
            )


def refuse_study(config: DictConfig) -> None:
    """Raises a `PmgError` if the experiment names another command as its job: a study is one of ``pmg-study``."""
    job = config.hydra.job
    if job.name != job.config_name and job.name in find_schemas():
        chosen = f"experiment={config.hydra.runtime.choices.experiment}"
        raise PmgError(
            f"{chosen} is no experiment of pmg-{job.config_name}: run pmg-{job.name} {chosen}. With hydra.mode=RUN "
            f"pmg-{job.config_name} computes its own part of a single job"
        )


def refuse_run_dir(run_dir: str, folder: Path, overrides: Sequence[str]) -> None:
    """Raises a `PmgError` if `run_dir` was set for a study, whose runs have folders of their own in `folder`."""
    if Path(run_dir) != folder and any(text.startswith("run_dir=") for text in overrides):
        raise PmgError(
            f"run_dir={run_dir}: the runs of this study go to {folder}. Set hydra.sweep.dir=FOLDER, or "
            "hydra.mode=RUN for a single run"
        )


def summarize(sweep: Sweep) -> bool:
    """Prints a sweep's table, and the command that completes it; returns whether a job failed."""
    folder = sweep.folder
    if not (jobs := find_jobs(folder, sweep.command)):
        return False  # an error stopped the sweep before its first job
    print_table(jobs, folder)
    own = [job for job in jobs if (job.folder / METRICS_FILE).stat().st_mtime >= sweep.begun]  # not of earlier sweeps
    failed, interrupted = any(job.status != "completed" for job in own), SweepSummary.current is not None
    if failed or interrupted:
        rerun = rerun_command(sweep.command, sys.argv[1:], sweep.pinned)
        print(f"run only failed and missing jobs: {rerun}", file=sys.stderr, flush=True)
    if not interrupted and (line := format_best_trial(folder)):
        print(line, flush=True)
    if not interrupted:
        print(f"tables, figures and a page: {shlex.join(['pmg-report', str(folder)])}", flush=True)
    return failed


def find_jobs(folder: Path, command: str) -> list[SweepJob]:
    """Returns the started jobs of a sweep in the order of their folders, without nested runs."""
    jobs: list[SweepJob] = []
    for path in sorted(folder.rglob(METRICS_FILE), key=lambda path: (len(path.parts), natural_key(path))):
        metrics = read_json(path) or {"command": command, "status": "damaged"}
        if metrics.get("command") == command and not any(path.is_relative_to(job.folder) for job in jobs):
            jobs.append(SweepJob(path.parent, metrics))
    return jobs


def varied(jobs: Sequence[SweepJob]) -> list[dict[str, str]]:
    """Returns the overrides by which the jobs differ, one mapping a job."""
    given = [dict(text.partition("=")[::2] for text in job.metrics.get("overrides", ())) for job in jobs]
    common = set.intersection(*(set(row.items()) for row in given)) if given else set()
    return [{key: value for key, value in row.items() if (key, value) not in common} for row in given]


def _short(value: str) -> str:
    """Rounds a long number to four digits; other values are returned unchanged."""
    try:
        return f"{float(value):.4g}" if len(value) > 8 else value
    except ValueError:
        return value


def print_table(jobs: Sequence[SweepJob], folder: Path) -> None:
    """Prints one row a job; results and errors only where there are some."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{len(jobs)} jobs in {folder}", title_justify="left", header_style="dim")
    rows = varied(jobs)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    last = [name for name in ("result", "error") if any(job.metrics.get(name) is not None for job in jobs)]
    for name in ("job", *keys, "status", "seconds", *last):
        table.add_column(name, overflow="fold", no_wrap=name in ("status", "seconds"))
    for job, row in zip(jobs, rows, strict=True):
        result, error = job.metrics.get("result"), job.metrics.get("error") or ""
        seconds = job.metrics.get("ledger", {}).get("seconds", {}).get("total")
        shown = {
            "result": "" if result is None else f"{result:.4g}",
            "error": escape(" ".join(error.split())[:MAX_ERROR_LENGTH]),
        }
        table.add_row(
            str(job.folder.relative_to(folder)), *(escape(_short(row.get(key, ""))) for key in keys), job.status,
            "" if seconds is None else f"{seconds:.0f}", *(shown[name] for name in last),
            style="red" if job.status != "completed" else "",
        )  # fmt: skip
    Console().print(table)


def rerun_command(command: str, arguments: Sequence[str], folder: Path | None = None) -> str:
    """Returns the command that repeats a sweep in its folder, where completed jobs are skipped.

    `folder` is the value of `run_dir`; None: the sweep's folder is the same each time.
    """
    if folder is not None:
        arguments = [*(text for text in arguments if not text.startswith("run_dir=")), override("run_dir", folder)]
    return shlex.join([f"pmg-{command}", *arguments])


def resume_study(config: DictConfig) -> None:
    """Reduces an Optuna sweeper's trials to those that its study lacks; failed and interrupted ones are run first.

    By itself it would start `n_trials` new ones each time. The config is changed only if a database holds the study.
    """
    sweeper = config.hydra.sweeper
    if "storage" not in sweeper or not sweeper.storage:
        return
    Path(config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)  # the database's folder
    trials = enqueue_failed_trials(sweeper.storage, sweeper.study_name)
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    with read_write(config.hydra), open_dict(config):  # it is that of `HydraConfig`
        sweeper.n_trials = max(0, sweeper.n_trials - len(complete))
        if sweeper.sampler.get("seed") is not None:
            sweeper.sampler.seed += len(trials)  # the same seed would draw the same trials again


def enqueue_failed_trials(storage: str, name: str) -> list[Any]:
    """Enqueues the parameters of trials without a result, each once; returns all trials of the study before that.

    Optuna's `RetryFailedTrialCallback` requires heartbeats, which only `Study.optimize` sends; Hydra's sweeper doesn't
    call it.
    """
    import optuna

    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return []
    trials = study.trials
    settled = [trial.params for trial in trials if trial.state.name == "COMPLETE"]
    settled += [trial.system_attrs["fixed_params"] for trial in trials if trial.state.name == "WAITING"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of enqueue_trial
        for trial in trials:
            if trial.state.name in ("FAIL", "RUNNING") and trial.params and trial.params not in settled:
                study.enqueue_trial(trial.params)
                settled.append(trial.params)
    return trials


def format_best_trial(folder: Path) -> str | None:
    """Returns value and parameters of a completed search's best trial in one line; None for other sweeps."""
    if not (folder / BEST_FILE).exists():
        return None
    found: Any = OmegaConf.to_container(OmegaConf.load(folder / BEST_FILE))
    values = " ".join(f"{name}={value}" for name, value in found.get("best_params", {}).items())
    return f"best: {found['best_value']:.4g} with {values}" if "best_value" in found else None
