"""The shell around every command: Hydra in, one clear line and the right exit code out."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pmg.configuration.composition import other_keys
from pmg.configuration.instantiate import nearest, register_configs
from pmg.orchestration import sweep_jobs
from pmg.orchestration.run import Body, execute, finished
from pmg.orchestration.sweep import SweepSummary
from pmg.runs.exit_codes import CLOSED_PIPE, INTERRUPTED
from pmg.runs.process_state import RunFailedError, keep_freed_memory
from pmg.runs.run_folder import read_run

CONFIG_MODULE = "pmg.conf"
PLUGINS = {  # what other packages add to Hydra, with our extra that brings it
    "hydra/launcher/joblib": "sweep",
    "hydra/launcher/submitit_local": "sweep",
    "hydra/launcher/submitit_slurm": "sweep",
    "hydra/launcher/ray": "ray",
    "hydra/sweeper/optuna": "sweep",
}
_UNKNOWN_KEY = r"Key '([^']+)' (?:is )?not in|Could not (?:override|delete from config\.) '([^']+)'"


# here, not in `launch`: a launcher's worker imports this module with its job, whose config it resolves first
register_configs()


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """Ends the command in silence when nobody reads its output any more: ``pmg-train --help | head``."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it ends
        sys.exit(CLOSED_PIPE)


@reader_may_leave()
def launch(command: str, body: Body) -> None:
    """Composes the config of `command` from the command line, runs `body`, and exits if that failed.

    Set ``HYDRA_FULL_ERROR=1`` to get the stack trace of an error in the config.
    """
    quiet()
    keep_freed_memory()
    signal.signal(signal.SIGTERM, terminated)  # as Ctrl-C: what a cluster sends before it takes a machine away
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, terminated)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report to its makers that it is used
    show_trace = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors over instead of printing them itself
    sys.argv[1:] = [text for text in sys.argv[1:] if not _deletes_other(text, command)]
    codes: list[int] = []

    @hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name=command)
    def job(cfg: DictConfig) -> float | None:
        if _in_worker():
            return _run_apart(cfg, command, body)
        try:
            return _run_job(cfg, command, body)
        except RunFailedError as failure:
            if failure.exit_code == INTERRUPTED:
                raise KeyboardInterrupt from failure  # ends a sweep too
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise  # the sweeper notes it and goes on with the other jobs
            codes.append(failure.exit_code)
            return None

    try:
        job()
    except (Exception, KeyboardInterrupt) as error:
        codes.append(_exit_code(error, command, show_trace))
    if SweepSummary.close():
        codes.append(1)
    if codes:
        sys.exit(max(codes))


def _exit_code(error: BaseException, command: str, show_trace: bool) -> int:
    """Says what ended the command, where nobody has said it yet; raises what is a fault of ours."""
    if isinstance(error, RunFailedError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    of_folder = isinstance(error, OSError) and error.filename is not None
    of_config = of_folder or isinstance(error, (HydraException, OmegaConfBaseException, YAMLError))
    if show_trace or not (of_config or SweepSummary.current):
        raise error
    of_sweep = f"the sweep stopped: {type(error).__name__}: {' '.join(str(error).split())}"
    print(f"error: {explain(error, command) if of_config else of_sweep}", file=sys.stderr)
    return 1


def _deletes_other(argument: str, command: str) -> bool:
    """Whether an argument deletes what only other commands compose: Hydra would find nothing to delete."""
    return argument.startswith("~") and re.split(r"[./=]", argument[1:])[0] in other_keys(command)


def quiet() -> None:
    """Silences bitsandbytes, which names the kernels that it lacks whenever it loads."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def terminated(signum: int, frame: FrameType | None) -> None:
    """Turns a termination into an interruption: checkpoint, status, and the command that goes on."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the second Ctrl-C waits for nobody
    SweepSummary.stop()
    raise KeyboardInterrupt


def _in_worker() -> bool:
    """Whether this process runs a job for the launcher of a sweep that another process has begun."""
    return HydraConfig.get().mode == RunMode.MULTIRUN and SweepSummary.current is None


def _run_apart(cfg: DictConfig, command: str, body: Body) -> float | None:
    """Runs one job in a child of this worker."""
    quiet()
    sweep_jobs.apart(lambda: _run_job(cfg, command, body))
    return read_run(HydraConfig.get().runtime.output_dir, command)[1]["result"]


def _run_job(cfg: DictConfig, command: str, body: Body) -> float | None:
    """Runs one job in the folder that Hydra chose for it (in a sweep: one for each job)."""
    hydra_config = HydraConfig.get()
    with open_dict(cfg):
        cfg.run_dir = hydra_config.runtime.output_dir
    # unresolved: an override may hold an interpolation, which means nothing outside of the job's config
    overrides = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)
    if hydra_config.mode == RunMode.MULTIRUN and (done := finished(cfg, command)):
        return done["result"]  # a sweep that is given again makes what is missing
    return execute(cfg, command, body, overrides, hydra_config.runtime.choices)


def explain(error: BaseException, command: str) -> str:
    """Turns an error of Hydra or OmegaConf into one line that names the nearest valid choice."""
    for cause in _chain(error):
        if isinstance(cause, MissingConfigException):
            return _explain_option(cause)
    if isinstance(error, YAMLError):
        return f"can't read the config: {' '.join(str(error).split())}"
    if isinstance(error, OSError):
        return f"can't use the run folder {error.filename}: {error.strerror}"
    if isinstance(error, OverrideParseException):
        return f"can't read the override '{error.override}': {str(error).splitlines()[0]}"
    text = "\n".join(str(cause) for cause in _chain(error))
    unknown = re.search(r"Key '([^']+)' (?:is )?not in|Could not (?:override|delete from config\.) '([^']+)'", text)
    if unknown:
        return _explain_key(text, unknown.group(1) or unknown.group(2), command)
    value = re.search(r"^\s*full_key: (\S+)", text, re.MULTILINE)
    where = f" (key '{value.group(1)}')" if value else ""
    lines = dict.fromkeys(_first_line(cause) for cause in _chain(error))
    return ": ".join(line for line in lines if line) + where


def _first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, and the second where the first only announces it."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])


def _explain_option(error: MissingConfigException) -> str:
    """Explains a group option, experiment or root file that doesn't exist."""
    missing = error.missing_cfg_file
    name = missing[0] if isinstance(missing, (list, tuple)) else str(missing)
    group, _, option = name.rpartition("/")
    options = list(error.options or [])
    if extra := PLUGINS.get(name):
        return f"{group}={option} needs a package that is not installed: pip install 'pmg[{extra}]'"
    hint = nearest(option, options)
    listed = f" (options: {', '.join(options)})" if options else ""
    return f"unknown option {group}={option}{hint}{listed}" if group else f"no config '{option}'{hint}"


def _explain_key(text: str, key: str, command: str) -> str:
    """Explains a key that the config doesn't have, on the command line or in a file."""
    override = re.search(r"Could not override '([^']+)'", text)
    source = re.search(r"In '([^']+)': (?!Could not find)", text)
    full = override.group(1) if override else _full_key(text, key)
    known = _known_keys(command)
    hint = nearest(full, known)
    where = f" in {source.group(1)}.yaml" if source else ""
    return f"unknown key '{full}'{where}{hint}"


def _full_key(text: str, key: str) -> str:
    full = re.search(r"^\s*full_key: (\S+)", text, re.MULTILINE)
    return full.group(1) if full else key


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _known_keys(command: str) -> list[str]:
    """Returns every key of the command's config (dotted) and its groups, composed without overrides."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        cfg = hydra.compose(command, return_hydra_config=True)
    choices = [str(group) for group in cfg.hydra.runtime.choices]
    with open_dict(cfg):
        del cfg["hydra"]
    return [*_keys(OmegaConf.to_container(cfg, resolve=False)), *choices]


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    for name, value in node.items() if isinstance(node, dict) else ():
        yield f"{prefix}{name}"
        yield from _keys(value, f"{prefix}{name}.")
