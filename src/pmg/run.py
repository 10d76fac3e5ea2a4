"""A run's life: seed, folder, resolved config, cost ledger, status, trackers closed with the right code."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pmg.cache import atomic_write_json, atomic_write_text
from pmg.config import check_targets, config_hash, leaves
from pmg.domain import PmgError
from pmg.ending import INTERRUPTED, exit_code, one_line
from pmg.process import RunFailedError, file_only, leads, log_file, rank, restored_state
from pmg.provenance import git_state, hardware, peak_memory, versions
from pmg.tracking.opening import open_tracking
from pmg.tracking.tracker import Tracking

log = logging.getLogger(__name__)

CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.json"


class Ledger:
    """What a run cost: seconds per phase and counts (LLM tokens, denoiser evaluations, …)."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        names = ("trainable_parameters", "llm_tokens_computed", "llm_tokens_reused", "denoiser_evaluations")
        self.counts: dict[str, int] = dict.fromkeys(names, 0)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the time spent inside to phase `name`, also when it ends with an error."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def count(self, name: str, amount: int) -> None:
        """Adds `amount` to counter `name`."""
        self.counts[name] = self.counts.get(name, 0) + int(amount)

    def as_dict(self) -> dict[str, Any]:
        """Returns seconds per phase, counts, and peak memory so far, JSON-able."""
        seconds = {name: round(value, 3) for name, value in self.seconds.items()}
        return {"seconds": seconds, **self.counts, "peak_memory": peak_memory()}


@dataclass
class Run:
    """What a command's body gets besides its config.

    Attributes:
        folder: the run's own folder; everything it makes goes here.
        command: the verb, e.g. ``"train"``.
        ledger: what the run cost.
        metrics: results by name, e.g. ``{"val/loss": 0.1}``; written to ``metrics.json``.
        tracking: loggers, which keep metrics, pictures, tables and artifacts.
        overrides: of the command line.
        choices: option by config group.
        id: stays with the folder: a run that goes on is the same one.
        result: what the body returned: the objective of a sweep.
        leads: whether this process writes; of several that train together only the first does.
    """

    folder: Path
    command: str
    ledger: Ledger = field(default_factory=Ledger)
    metrics: dict[str, Any] = field(default_factory=dict)
    tracking: Tracking = field(default_factory=Tracking)
    overrides: list[str] = field(default_factory=list)
    choices: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    result: float | None = None
    leads: bool = True

    @property
    def log(self) -> Path:
        """Where this process logs."""
        return self.folder / (f"{self.command}.log" if self.leads else f"{self.command}.rank{rank()}.log")

    def measure(self, values: Mapping[str, float]) -> None:
        """Notes results in ``metrics.json`` and in every tracker."""
        self.metrics.update(values)
        self.tracking.record_metrics(values)


Body = Callable[[DictConfig, Run], float | None]


def execute(
    cfg: DictConfig, command: str, body: Body, overrides: Sequence[str] = (), choices: Mapping[str, Any] | None = None
) -> float | None:
    """Runs `body` in its folder and records how it went.

    Args:
        cfg: composed config; `cfg.run_dir` is the folder. The body sees it read-only.
        command: the verb, e.g. ``"train"``.
        body: does the work; a returned float is what a sweep optimises.
        overrides: the command-line overrides, to name the command that goes on after an interruption.
        choices: option by config group, for the tags of trackers.

    Returns:
        What `body` returned.

    Raises:
        RunFailedError: the run failed, was interrupted (code 130) or exited; it has been reported already.
    """
    run = Run(Path(cfg.run_dir), command, overrides=list(overrides), choices=choices or {}, leads=leads(command))
    with restored_state(), log_file(run.log):
        try:
            result = _recorded(cfg, run, body)
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            raise RunFailedError(_report(error, run)) from error
        print(run.folder, flush=True)
        return result


def execute_part(cfg: DictConfig, command: str, body: Body, tracking: Tracking) -> None:
    """Runs `body` as a part of another run, unless its folder holds the result already.

    Args:
        cfg: as for `execute`; whether a result is the same is decided by its hash.
        command: the verb that the folder belongs to.
        body: does the work; what it raises is for the other run to report.
        tracking: the other run's, which stays open.
    """
    if finished(cfg, command):
        return
    run = Run(Path(cfg.run_dir), command, tracking=tracking, leads=leads(command))
    with log_file(run.log):
        _recorded(cfg, run, body)


def finished(cfg: DictConfig, command: str) -> dict[str, Any] | None:
    """The ``metrics.json`` of a completed run of this very config in its folder; None where there is none."""
    try:
        _, metrics = read_run(cfg.run_dir, command)
    except PmgError:
        return None
    if metrics["status"] != "completed" or metrics.get("config") != config_hash(cfg):
        return None
    log.info("%s is complete", cfg.run_dir)
    return metrics


def _recorded(cfg: DictConfig, run: Run, body: Body) -> float | None:
    """Runs `body` with the config read-only and writes how it went into the run's folder."""
    record = _Record(cfg, run)
    try:
        record.start(cfg)
        seed_everything(cfg.get("seed"))
        check_targets(cfg)
        OmegaConf.set_readonly(cfg, True)
        with run.ledger.phase("total"):
            run.result = body(cfg, run)
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        with contextlib.suppress(OSError):  # of a full disk `error` tells already
            record.write("interrupted" if exit_code(error) == INTERRUPTED else "failed", error)
        raise
    finally:
        OmegaConf.set_readonly(cfg, False)
    record.write("completed")
    return run.result


def tracked(body: Body) -> Body:
    """The body between the opening and the closing of the run's trackers.

    They are opened by the process that leads; the parts of another run write into that run's.
    """

    @functools.wraps(body)
    def work(cfg: DictConfig, run: Run) -> float | None:
        if run.tracking or not run.leads:
            return body(cfg, run)
        with open_tracking(cfg, run.folder, run.command, run.id, run.choices, exit_code) as run.tracking:
            result = body(cfg, run)
            costs = {f"cost/{name.replace('.', '/')}": value for name, value in leaves(run.ledger.as_dict())}
            run.tracking.record_metrics(costs if result is None else {**costs, "objective": result})
        return result

    return work


def read_run(folder: Path | str, command: str) -> tuple[DictConfig, dict[str, Any]]:
    """Returns the resolved config and the ``metrics.json`` of an earlier run.

    Raises:
        PmgError: `folder` is no run folder, is damaged, or belongs to another command.
    """
    folder = Path(folder)
    try:
        metrics = json.loads((folder / METRICS_FILE).read_text())
        config = OmegaConf.load(folder / CONFIG_FILE)
    except FileNotFoundError as error:
        raise PmgError(f"{folder} is not a run folder (no {Path(error.filename).name} in it)") from error
    except ValueError as error:
        raise PmgError(f"{folder / METRICS_FILE} is damaged; run `pmg-{command}` again") from error
    owner = metrics.get("command")
    if owner != command or not isinstance(config, DictConfig):
        raise PmgError(f"{folder} belongs to pmg-{owner}; a folder of pmg-{command} is needed")
    return config, metrics


class _Record:
    """Writes the run's ``config.yaml`` once and its ``metrics.json`` at each change of status."""

    def __init__(self, cfg: DictConfig, run: Run) -> None:
        self.run = run
        self.owned = False
        self.facts = {
            "command": run.command,
            "seed": cfg.get("seed"),
            "overrides": run.overrides,
            "process": os.getpid(),
            "versions": versions(),
            "git": git_state(),
            "hardware": hardware(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }

    def start(self, cfg: DictConfig) -> None:
        """Takes the folder: writes the status and the resolved config.

        Raises:
            PmgError: the folder is another command's, or damaged; nothing in it is touched.
        """
        if not self.run.leads:
            return
        path = self.run.folder / METRICS_FILE
        try:
            known = json.loads(path.read_text()) if path.exists() else {"command": self.run.command}
        except ValueError as error:
            raise PmgError(f"{path} is damaged; remove it to go on in its folder, as a new run") from error
        owner = known.get("command")
        if owner != self.run.command:
            raise PmgError(f"run_dir {self.run.folder} belongs to pmg-{owner}; name another one")
        self.owned = True
        self.facts["id"] = self.run.id = known.get("id") or uuid.uuid4().hex[:12]
        self.write("running")
        self.facts["config"] = config_hash(cfg)
        atomic_write_text(self.run.folder / CONFIG_FILE, OmegaConf.to_yaml(cfg, resolve=True))

    def write(self, status: str, error: BaseException | None = None) -> None:
        """Writes how the run stands, unless the folder was refused."""
        if not self.owned:
            return
        facts = {"status": status, **self.facts, "ledger": self.run.ledger.as_dict()}
        facts["result"] = None if self.run.result is None else _jsonable(self.run.result)
        facts["metrics"] = {name: _jsonable(value) for name, value in self.run.metrics.items()}
        facts["error"] = None if error is None else f"{type(error).__name__}: {error}"
        atomic_write_json(self.run.folder / METRICS_FILE, facts)


def _jsonable(value: Any) -> Any:
    """Turns 0-d tensors and numpy scalars into numbers, and what JSON can't hold (NaN) into None."""
    value = value.item() if hasattr(value, "item") else value
    return None if value != value or value in (float("inf"), float("-inf")) else value


def seed_everything(seed: int | None) -> None:
    """Seeds every random number generator; None leaves them unseeded."""
    if seed is not None:  # 0 is a seed
        import pytorch_lightning

        pytorch_lightning.seed_everything(seed, workers=True, verbose=False)


def _report(error: BaseException, run: Run) -> int:
    """Says on the console and in the run's log what ended the run; returns the exit code."""
    code = exit_code(error)
    if code == INTERRUPTED:
        kept = [override for override in run.overrides if not override.startswith("run_dir=")]
        command = shlex.join([f"pmg-{run.command}", *kept, f"run_dir={run.folder}"])
        print(f"interrupted; go on with: {command}", file=sys.stderr)
    elif not isinstance(error, SystemExit):
        print(f"error: {one_line(error, run.folder, run.log)}", file=sys.stderr)
    with file_only():
        log.error("run ended with exit code %d", code, exc_info=error)
    print(run.folder, flush=True)
    return code
