"""The shell around every command: Hydra in, one clear line and the right exit code out."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pmg import __version__
from pmg.configuration.compose import explain, refuse_overrides
from pmg.configuration.instantiate import register_configs, to_plain
from pmg.configuration.plugins import read_command_line, searched
from pmg.configuration.search_path import CONFIG_MODULE
from pmg.configuration.trees import leaves
from pmg.domain import PmgError
from pmg.orchestration import sweep_jobs
from pmg.orchestration.command_lines import next_command, override_root
from pmg.orchestration.exported_pipeline import take_pipeline_parts
from pmg.orchestration.inheritance import find_inherited
from pmg.orchestration.run import Body, execute
from pmg.orchestration.sweep import SweepSummary
from pmg.runs.exit_codes import CLOSED_PIPE, INTERRUPTED
from pmg.runs.process_state import RunFailedError, check_rank, is_main_process, keep_freed_memory
from pmg.runs.run_folder import completed_metrics, read_run

# here, not in `launch`: a launcher's worker imports this module with its job, whose config it resolves first
register_configs()


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """Ends the command without a message after its output pipe was closed: ``pmg-train --help | head``."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python prints an error at exit
        sys.exit(CLOSED_PIPE)


def make_parser() -> argparse.ArgumentParser:
    """Returns Hydra's parser of its options, without Python 3.14's check of each help text.

    One of Hydra 1.3 is no string, but an object that makes the text when it is printed.
    """
    check: Any = getattr(argparse.ArgumentParser, "_check_help", None)
    if check is None:
        return get_args_parser()
    argparse.ArgumentParser._check_help = lambda self, action: None  # type: ignore[attr-defined]
    try:
        return get_args_parser()
    finally:
        argparse.ArgumentParser._check_help = check  # type: ignore[attr-defined]


@reader_may_leave()
def launch(command: str, body: Body) -> None:
    """Composes the config of `command` from the command line, runs `body`, and exits if that failed.

    Set ``HYDRA_FULL_ERROR=1`` to get the stack trace of an error in the config.
    """
    if "--version" in sys.argv[1:]:  # Hydra's own option prints the version of Hydra
        print(f"pmg {__version__}")
        return
    keep_freed_memory()
    signal.signal(signal.SIGTERM, terminated)  # as Ctrl-C: clusters send SIGTERM before preemption
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, terminated)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # disables Ray's usage reports
    show_trace = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises errors instead of printing them
    codes: list[int] = []

    importlib.import_module("hydra.main").get_args_parser = make_parser  # type: ignore[attr-defined]

    @hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name=command)
    def job(cfg: DictConfig) -> float | None:
        """Runs one job; returns its result, which a sweeper reads."""
        if HydraConfig.get().mode == RunMode.MULTIRUN and SweepSummary.current is None:  # another process's sweep
            return _run_job_in_child(cfg, command, body)
        try:
            return _run_job(cfg, command, body)
        except RunFailedError as failure:
            if failure.exit_code == INTERRUPTED:
                raise KeyboardInterrupt from failure  # ends a sweep too
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise  # the sweeper records it and runs the other jobs
            codes.append(failure.exit_code)
            return None

    codes.append(_run(job, command, show_trace))
    if SweepSummary.close():
        codes.append(1)
    if any(codes):
        sys.exit(max(codes))


def _run(job: Callable[[], Any], command: str, show_trace: bool) -> int:
    """Runs a command's job or sweep; prints an error of its config and returns the exit code, raises pmg's own."""
    try:
        check_rank()
        refuse_overrides(sys.argv[1:])
        sys.argv[1:] = continue_run(command, sys.argv[1:])
        with searched(read_command_line()):
            job()
    except RunFailedError as failure:  # its message was printed
        return failure.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except (HydraException, OmegaConfBaseException, PmgError, YAMLError) as error:
        if show_trace:
            raise
        return _print_error(explain(error, command, sys.argv[1:]))
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None and not show_trace:
            return _print_error(f"can't use the run folder {error.filename}: {error.strerror}")
        if str(error).startswith("Only one of --run") and not show_trace:  # Hydra's, of its own options
            return _print_error(f"{error}. Leave one of them out: {' '.join(sys.argv[1:])}")
        if show_trace or not SweepSummary.current:
            raise  # an error of pmg itself
        return _print_error(f"the sweep stopped: {type(error).__name__}: {' '.join(str(error).split())}")
    return 0


def continue_run(command: str, arguments: Sequence[str]) -> list[str]:
    """Returns a command's arguments with the overrides that it takes over from the run that it continues.

    An experiment that sweeps by itself is taken over for a single run.
    """
    own = [text for text in arguments if text.startswith("~") or ("=" in text and not text.startswith("-"))]
    if not (inherited := find_inherited(command, own)):
        return list(arguments)
    if "experiment" in map(override_root, inherited) and not {"-m", "--multirun"} & set(arguments):
        inherited.append("hydra.mode=RUN")
    place = arguments.index(own[0])  # together: Hydra reads no options between its overrides
    return [*arguments[:place], *inherited, *arguments[place:]]


def _print_error(text: str) -> int:
    print(f"error: {text}", file=sys.stderr)
    return 1  # the exit code


def terminated(signum: int, frame: FrameType | None) -> None:
    """Handles SIGTERM and SIGINT as an interruption: checkpoint, status, and the command that resumes."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C doesn't wait
    SweepSummary.stop()
    raise KeyboardInterrupt


def _run_job_in_child(cfg: DictConfig, command: str, body: Body) -> float | None:
    if HydraConfig.get().launcher._target_.endswith(".JoblibLauncher"):  # SLURM's jobs outlive the shell
        sweep_jobs.end_with_parent()
    sweep_jobs.run_in_child(lambda: _run_job(cfg, command, body))
    return read_run(HydraConfig.get().runtime.output_dir, command)[1]["result"]


def _run_job(cfg: DictConfig, command: str, body: Body) -> float | None:
    """Runs one job in Hydra's output folder (in a sweep: one for each job)."""
    hydra_config = HydraConfig.get()
    with open_dict(cfg):
        if cfg.run_dir:  # else it is refused
            cfg.run_dir = hydra_config.runtime.output_dir
    # unresolved: interpolations in overrides can be resolved in the job's config only
    overrides: Any = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)
    try:
        take_pipeline_parts(cfg, command, overrides)
    except PmgError as error:
        print(f"error: {error}", file=sys.stderr)
        raise RunFailedError(1) from error
    if hydra_config.mode == RunMode.MULTIRUN and (done := completed_metrics(cfg, command)):
        return done["result"]  # a repeated sweep runs missing jobs only
    following = None
    with contextlib.suppress(OmegaConfBaseException):  # the command's checks tell which value is missing
        values = dict(leaves(to_plain(cfg)))
        following = next_command(command, values, overrides)  # before the keys of other commands are removed
    result = execute(cfg, command, body, overrides, hydra_config.runtime.choices)
    if following and hydra_config.mode == RunMode.RUN and is_main_process(command):
        print(f"next: {following}", flush=True)
    return result
