"""A run's life: seed, folder, resolved config, cost ledger, status, trackers closed with the right code."""

from __future__ import annotations

import contextlib
import functools
import logging
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pmg.configuration.instantiate import allow_plugins, check_targets, leaves, refuse_infinite, take_out
from pmg.domain import PmgError
from pmg.runs.exit_codes import INTERRUPTED, exit_code, one_line
from pmg.runs.locks import locked
from pmg.runs.process_state import RunFailedError, file_only, leads, log_file, rank, restored_state
from pmg.runs.provenance import peak_memory
from pmg.runs.run_folder import Record, holds_dtype, identify, read_run, refuse_other, settle, written_folders
from pmg.tracking.factory import open_tracking
from pmg.tracking.tracker import Tracking

log = logging.getLogger(__name__)


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
        stated: values of the command line that only other commands read.
        id: stays with the folder: a run that goes on is the same one.
        result: what the body returned: the objective of a sweep.
        leads: whether this process writes; of several that train together only the first does.
        begun: whether the run has taken its folder.
    """

    folder: Path
    command: str
    ledger: Ledger = field(default_factory=Ledger)
    metrics: dict[str, Any] = field(default_factory=dict)
    tracking: Tracking = field(default_factory=Tracking)
    overrides: list[str] = field(default_factory=list)
    choices: Mapping[str, Any] = field(default_factory=dict)
    stated: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    result: float | None = None
    leads: bool = True
    begun: bool = False
    _at_begin: list[Callable[[], object]] = field(default_factory=list)

    def begin(self) -> None:
        """Called by a body once nothing can be refused any more, before it writes into a folder of an earlier run."""
        self.begun, waiting, self._at_begin = True, self._at_begin, []
        for act in waiting:
            act()

    def when_begun(self, act: Callable[[], object]) -> None:
        """Does something once the run has begun: at once where it has."""
        self._at_begin.append(act)
        if self.begun:
            self.begin()

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
        cfg: composed config; `cfg.run_dir` is the folder. The body sees what the command reads of it, read-only.
        command: the verb, e.g. ``"train"``.
        body: does the work; a returned float is what a sweep optimises.
        overrides: the command-line overrides, to name the command that goes on after an interruption.
        choices: option by config group, for the tags of trackers.

    Returns:
        What `body` returned.

    Raises:
        RunFailedError: the run was refused, failed, was interrupted (code 130) or exited; it has been reported.
    """
    run = Run(Path(cfg.run_dir), command, overrides=list(overrides), choices=choices or {}, leads=leads(command))
    with restored_state(), contextlib.ExitStack() as locks:
        try:
            allow_plugins(cfg)
            run.stated = take_out(cfg, command, run.overrides)
            record = _admit(cfg, run, locks)
        except (PmgError, OmegaConfBaseException) as error:
            print(f"error: {one_line(error, run.folder, run.log)}", file=sys.stderr)
            raise RunFailedError(1) from error
        with log_file(run.log, run.begun) as write_log:
            run.when_begun(write_log)
            try:
                result = _recorded(cfg, run, record, body)
            except (Exception, KeyboardInterrupt, SystemExit) as error:
                raise RunFailedError(_report(error, run, write_log)) from error
            print(run.folder, flush=True)
            return result


def execute_part(cfg: DictConfig, command: str, body: Body, tracking: Tracking) -> None:
    """Runs `body` as a part of another run, unless its folder holds the result already.

    Args:
        cfg: as for `execute`; whether a result is the same is decided by its identity.
        command: the verb that the folder belongs to.
        body: does the work; what it raises is for the other run to report.
        tracking: the other run's, which stays open.
    """
    if finished(cfg, command):
        return
    run = Run(Path(cfg.run_dir), command, tracking=tracking, leads=leads(command))
    with contextlib.ExitStack() as locks:
        record = _admit(cfg, run, locks)
        write_log = locks.enter_context(log_file(run.log, run.begun))
        run.when_begun(write_log)
        _recorded(cfg, run, record, body)


def finished(cfg: DictConfig, command: str) -> dict[str, Any] | None:
    """The ``metrics.json`` of a completed run of this very identity in its folder; None where there is none."""
    try:
        _, metrics = read_run(cfg.run_dir, command)
    except PmgError:
        return None
    same = metrics.get("identity") == identify(cfg, command) and holds_dtype(metrics, cfg.get("dtype"))
    if metrics["status"] != "completed" or not same:
        return None
    log.info("%s is complete", cfg.run_dir)
    return metrics


def _admit(cfg: DictConfig, run: Run, locks: contextlib.ExitStack) -> Record:
    """Checks that the run may use its folder, before anything is written; a new folder is taken at once.

    Args:
        cfg: of the run.
        run: whose folder it is.
        locks: gets those of the folders that the run writes.

    Raises:
        PmgError: see `refuse_other`; or a number is not finite, or another process writes into the folder.
    """
    refuse_infinite(cfg)  # JSON, which holds a run's identity, has no such numbers
    identity = identify(cfg, run.command)
    known = None
    if run.leads:
        try:
            refuse_other(run.folder, run.command, identity, cfg.get("dtype"))
        except PmgError:
            check_targets(cfg)  # a value that is out of its range in every folder is refused as such
            raise
        locks.enter_context(locked(written_folders(cfg, run.command), run.command))
        known = refuse_other(run.folder, run.command, identity, cfg.get("dtype"))
    facts = {"command": run.command, "seed": cfg.get("seed"), "overrides": run.overrides, "identity": identity}
    facts["dtype"] = settle(cfg)
    record = Record(cfg, run.folder, facts, known)
    run.id = record.facts["id"]
    if run.leads:
        run.when_begun(record.begin)
    if known is None:
        run.begin()
    return record


def _recorded(cfg: DictConfig, run: Run, record: Record, body: Body) -> float | None:
    """Runs `body` with the config read-only and writes how it went into the run's folder."""
    try:
        check_targets(cfg)
        seed_everything(cfg.get("seed"))
        OmegaConf.set_readonly(cfg, True)
        if run.stated:
            log.info("not read by pmg-%s: %s", run.command, ", ".join(run.stated))
        with run.ledger.phase("total"):
            run.result = body(cfg, run)
        run.begin()
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        with contextlib.suppress(OSError):  # of a full disk `error` tells already
            record.write("interrupted" if exit_code(error) == INTERRUPTED else "failed", _measured(run, error))
        raise
    finally:
        OmegaConf.set_readonly(cfg, False)
    record.write("completed", _measured(run))
    return run.result


def _measured(run: Run, error: BaseException | None = None) -> dict[str, Any]:
    """What a run has measured and cost so far, for its ``metrics.json``."""
    return {
        "ledger": run.ledger.as_dict(),
        "result": None if run.result is None else _jsonable(run.result),
        "metrics": {name: _jsonable(value) for name, value in run.metrics.items()},
        "error": None if error is None else f"{type(error).__name__}: {error}",
    }


def tracked(body: Body) -> Body:
    """The body between the opening and the closing of the run's trackers.

    They are opened by the process that leads; the parts of another run write into that run's.
    """

    @functools.wraps(body)
    def work(cfg: DictConfig, run: Run) -> float | None:
        if run.tracking or not run.leads:
            return body(cfg, run)
        opening = open_tracking(cfg, run.folder, run.command, run.id, run.choices, exit_code)
        with contextlib.ExitStack() as stack:
            run.when_begun(lambda: setattr(run, "tracking", stack.enter_context(opening)))
            result = body(cfg, run)
            run.begin()
            costs = {f"cost/{name.replace('.', '/')}": value for name, value in leaves(run.ledger.as_dict())}
            run.tracking.record_metrics(costs if result is None else {**costs, "objective": result})
        return result

    return work


def _jsonable(value: Any) -> Any:
    """Turns 0-d tensors and numpy scalars into numbers, and what JSON can't hold (NaN) into None."""
    value = value.item() if hasattr(value, "item") else value
    return None if value != value or value in (float("inf"), float("-inf")) else value


def seed_everything(seed: int | None) -> None:
    """Seeds every random number generator; None leaves them unseeded."""
    if seed is not None:  # 0 is a seed
        import pytorch_lightning

        pytorch_lightning.seed_everything(seed, workers=True, verbose=False)


def _report(error: BaseException, run: Run, write_log: Callable[[], None]) -> int:
    """Says on the console and in the run's log what ended the run; returns the exit code."""
    code = exit_code(error)
    if code == INTERRUPTED:
        kept = [override for override in run.overrides if not override.startswith("run_dir=")]
        command = shlex.join([f"pmg-{run.command}", *kept, f"run_dir={run.folder}"])
        print(f"interrupted; go on with: {command}", file=sys.stderr)
    elif not isinstance(error, SystemExit):
        print(f"error: {one_line(error, run.folder, run.log)}", file=sys.stderr)
    if run.begun or not (code == INTERRUPTED or isinstance(error, PmgError)):
        write_log()
        with file_only():
            log.error("run ended with exit code %d", code, exc_info=error)
    print(run.folder, flush=True)
    return code
