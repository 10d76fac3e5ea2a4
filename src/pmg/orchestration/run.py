"""Runs a command: seed, run folder, resolved config, cost ledger, status, trackers, exit code."""

from __future__ import annotations

import contextlib
import functools
import logging
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pmg import __version__
from pmg.configuration.instantiate import allow_plugins, check_targets, refuse_infinite, to_plain
from pmg.configuration.trees import leaves
from pmg.domain import PmgError
from pmg.orchestration.command_lines import resume_command
from pmg.paths import display_path
from pmg.runs.content import digest_path
from pmg.runs.exit_codes import INTERRUPTED, exit_code, one_line
from pmg.runs.ledger import TOTAL, Ledger
from pmg.runs.owned_folders import CACHES, claim, is_locked, locked, refuse_cache, refuse_foreign
from pmg.runs.process_state import RunFailedError, file_only, is_main_process, log_file, rank, restored_state
from pmg.runs.run_folder import RunRecord, completed_metrics, identify, refuse_other, resolve_dtype, written_folders
from pmg.tracking.tracker import Label, Tracking, open_tracking, run_name, tags

log = logging.getLogger(__name__)


@dataclass
class Run:
    """The state of a run, passed to a command's body together with the config."""

    folder: Path  # which contains all files of the run
    command: str  # the verb, e.g. "train"
    ledger: Ledger = field(default_factory=Ledger)
    metrics: dict[str, Any] = field(default_factory=dict)  # results by name; written to metrics.json, as the next
    made: dict[str, str] = field(default_factory=dict)  # sha256 of files that other runs read, by name in the folder
    tracking: Tracking = field(default_factory=Tracking)
    overrides: list[str] = field(default_factory=list)  # of the command line
    choices: Mapping[str, Any] = field(default_factory=dict)  # option by config group
    id: str = ""  # the same after a resume
    is_main: bool = True  # whether this process writes files: in distributed training, rank 0 only
    result: float | None = field(default=None, init=False)  # what the body returned: the objective of a sweep
    begun: bool = field(default=False, init=False)  # whether `begin` was called
    _at_begin: list[Callable[[], object]] = field(default_factory=list, init=False)

    def begin(self) -> None:
        """Starts the run's record. A body calls this after its checks, before it changes files of an earlier run."""
        self.begun, waiting, self._at_begin = True, self._at_begin, []
        for act in waiting:
            act()

    def when_begun(self, act: Callable[[], object]) -> None:
        """Calls `act` in `begin`; immediately if the run has begun."""
        self._at_begin.append(act)
        if self.begun:
            self.begin()

    @property
    def log(self) -> Path:
        """The log file of this process."""
        return self.folder / (f"{self.command}.log" if self.is_main else f"{self.command}.rank{rank()}.log")

    def record_digest(self, name: str) -> None:
        """Records the digest of a file or folder of the run folder, by which other runs know whose it is."""
        self.made[name] = digest_path(self.folder / name) or ""

    def measure(self, values: Mapping[str, float]) -> None:
        """Records results in ``metrics.json`` and in every tracker."""
        self.metrics.update(values)
        self.tracking.record_metrics(values)

    def publish(self, folder: Path, results: Mapping[str, Any], files: Mapping[str, str] | None = None) -> None:
        """Gives results to the trackers, and prints the headline table and the paths of all tables and of `files`."""
        from rich.console import Console

        from pmg.evaluation.result_tables import ResultTables
        from pmg.evaluation.table_rendering import print_table
        from pmg.evaluation.tracker_logging import headline, record_results

        self.measure(headline(results))
        record_results(self.tracking, results, folder)
        print_table(*ResultTables.of(results).headline(results), Console())
        for name, file in {"all tables": "table.md", **(files or {})}.items():
            print(f"{name}: {folder / file}")


Body = Callable[[DictConfig, Run], float | None]


def execute(
    cfg: DictConfig, command: str, body: Body, overrides: Sequence[str] = (), choices: Mapping[str, Any] | None = None
) -> float | None:
    """Runs `body` in the folder `cfg.run_dir` and records status, metrics and costs there.

    The body gets `cfg`, read-only; what it returns, the objective of a sweep, is returned.
    `overrides` are of the command line, for the command that is printed after an interruption; `choices`, the option
    by config group, are for the tags of trackers. RunFailedError if the run was refused, failed, was interrupted (code
    130) or exited, once the error was printed.
    """
    run = Run(
        Path(cfg.run_dir), command, overrides=list(overrides), choices=choices or {}, is_main=is_main_process(command)
    )
    with restored_state(), contextlib.ExitStack() as locks:
        try:
            allow_plugins(cfg)
            limited = OmegaConf.select(cfg, "trainer.max_time")  # the same command continues it
            if command == "train" and not limited and (completed := completed_metrics(cfg, command)):
                print(display_path(run.folder), flush=True)
                return completed["result"]  # without this, one that ended before max_steps would train on
            record = _open_record(cfg, run, locks)
        except (PmgError, OmegaConfBaseException) as error:
            print(f"error: {one_line(error, run.folder, run.log)}", file=sys.stderr)
            raise RunFailedError(1) from error
        with log_file(run.log, run.begun) as write_log:
            run.when_begun(write_log)
            try:
                result = _run_recorded(cfg, run, record, body)
            except (Exception, KeyboardInterrupt, SystemExit) as error:
                raise RunFailedError(_report_error(error, run, write_log)) from error
            print(display_path(run.folder), flush=True)
            return result


def execute_nested(cfg: DictConfig, command: str, body: Body, tracking: Tracking) -> None:
    """Runs `body` inside another run, which gets its errors, unless the folder has a completed run of its identity."""
    if completed_metrics(cfg, command):
        return
    run = Run(Path(cfg.run_dir), command, tracking=tracking, is_main=is_main_process(command))
    with contextlib.ExitStack() as locks:
        record = _open_record(cfg, run, locks)
        write_log = locks.enter_context(log_file(run.log, run.begun))
        run.when_begun(write_log)
        _run_recorded(cfg, run, record, body)


def _open_record(cfg: DictConfig, run: Run, locks: contextlib.ExitStack) -> RunRecord:
    """Checks that the run may write into its folder and returns its record; begins the run in a new folder.

    `locks` receives the locks of the folders that the run writes. PmgError as `refuse_other`, or if a number is not
    finite, or another process writes into the folder.
    """
    plain = to_plain(cfg)
    if not plain["run_dir"]:
        raise PmgError("run_dir is empty: name a folder, or leave it out")
    for name, path in (plain.get("paths") or {}).items():
        if found := [one for one in (Path(str(path)), *Path(str(path)).parents) if path and one.is_file()]:
            raise PmgError(f"paths.{name}={path}: {found[0]} is a file; name a folder")
        if name in CACHES and path and "://" not in path:
            refuse_cache(f"paths.{name}", path, (plain.get("paths") or {}).get("assets_dir"))
    refuse_infinite(plain)  # the identity is stored as JSON, which has no infinite numbers
    identity = identify(cfg, run.command)
    earlier = None
    if run.is_main:
        try:
            refuse_other(run.folder, run.command, identity, cfg.get("dtype"))
        except PmgError:
            check_targets(cfg)  # a value outside of its range is the cause in every folder
            raise
        # those of an outer run, which has locked them, are its own
        folders = [path for path in written_folders(dict(leaves(plain)), run.command) if not is_locked(path)]
        refuse_foreign(folders, run.folder, run.command, identity, (plain.get("paths") or {}).get("assets_dir"))
        locks.enter_context(locked(folders, run.command))
        earlier = refuse_other(run.folder, run.command, identity, cfg.get("dtype"))
    facts = {"command": run.command, "seed": cfg.get("seed"), "overrides": run.overrides, "identity": identity}
    facts["choices"] = {str(group): option for group, option in run.choices.items()}
    facts["dtype"] = resolve_dtype(cfg)
    record = RunRecord(OmegaConf.to_yaml(cfg, resolve=True), run.folder, facts, earlier)
    run.id = record.facts["id"]
    if run.is_main:
        run.when_begun(record.begin)
        run.when_begun(lambda: claim(folders, run.folder, run.command, identity))
    if earlier is None:
        run.begin()
    elif earlier["status"] != "completed":
        run.ledger.earlier = (earlier.get("ledger") or {}).get("seconds", {})
    return record


def _run_recorded(cfg: DictConfig, run: Run, record: RunRecord, body: Body) -> float | None:
    try:
        check_targets(cfg)
        seed_everything(cfg.get("seed"))
        OmegaConf.set_readonly(cfg, True)
        with file_only():
            log.info(
                "pmg-%s of pmg %s, %s", run.command, __version__, shlex.join(run.overrides) or "without overrides"
            )
        with run.ledger.phase(TOTAL):
            run.result = body(cfg, run)
        run.begin()
        log.info(run.ledger.summarize())
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        with contextlib.suppress(OSError):  # on a full disk; `error` is raised in any case
            record.write("interrupted" if exit_code(error) == INTERRUPTED else "failed", _measured(run, error))
        raise
    finally:
        OmegaConf.set_readonly(cfg, False)
    record.write("completed", _measured(run))
    return run.result


def _measured(run: Run, error: BaseException | None = None) -> dict[str, Any]:
    return {
        "ledger": run.ledger.as_dict(),
        "made": run.made,
        "result": None if run.result is None else _jsonable(run.result),
        "metrics": {name: _jsonable(value) for name, value in run.metrics.items()},
        "error": error and ("interrupted" if exit_code(error) == INTERRUPTED else f"{type(error).__name__}: {error}"),
    }


def tracked(body: Body) -> Body:
    """Decorates `body`: the main process opens the run's trackers, unless an outer run did, and closes them again."""

    @functools.wraps(body)
    def work(cfg: DictConfig, run: Run) -> float | None:
        """Runs `body` with trackers; returns its result."""
        if run.tracking or not run.is_main:
            return body(cfg, run)
        plain = to_plain(cfg)
        name = run_name(run.folder, Path(plain["paths"]["output_dir"]))
        label = Label(run.id, name, run.command, tags(plain.get("method"), run.choices, run.command))
        with contextlib.ExitStack() as stack:
            run.when_begun(lambda: setattr(run, "tracking", stack.enter_context(open_tracking(plain, label))))
            result = body(cfg, run)
            run.begin()
            costs = {f"cost/{name.replace('.', '/')}": value for name, value in leaves(run.ledger.as_dict())}
            run.tracking.record_metrics(costs if result is None else {**costs, "objective": result})
        return result

    return work


def _jsonable(value: Any) -> Any:
    """Converts 0-d tensors and numpy scalars into numbers, and NaN and infinity, which JSON lacks, into None."""
    value = value.item() if hasattr(value, "item") else value
    return None if value != value or value in (float("inf"), float("-inf")) else value


def seed_everything(seed: int | None) -> None:
    """Seeds every random number generator; None leaves them unseeded."""
    if seed is not None:  # 0 is a seed
        import pytorch_lightning

        pytorch_lightning.seed_everything(seed, workers=True, verbose=False)


def _report_error(error: BaseException, run: Run, write_log: Callable[[], None]) -> int:
    code, line = exit_code(error), ""
    if code == INTERRUPTED:
        line = f"interrupted; resume with: {resume_command(run.command, run.folder, run.overrides)}"
    elif not isinstance(error, SystemExit):
        line = f"error: {one_line(error, run.folder, run.log)}"
    if line:
        print(line, file=sys.stderr)
    if run.begun or not (code == INTERRUPTED or isinstance(error, PmgError)):
        write_log()
        with file_only():
            if code == INTERRUPTED:
                log.warning(line)
            else:
                log.error("run ended with exit code %d", code, exc_info=error)
    print(display_path(run.folder), flush=True)
    return code
