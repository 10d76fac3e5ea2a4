"""Processes that one command starts on this machine: ranks that train together, shards that work apart."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals

from pmg.configuration.instantiate import register_configs
from pmg.configuration.targets import allow_plugin, allowed_plugins
from pmg.domain import PmgError
from pmg.runs.exit_codes import is_interrupt
from pmg.runs.process_state import keep_freed_memory, log_file

log = logging.getLogger(__name__)

GRACE_S = 60  # for a checkpoint, after an interruption


@dataclass(frozen=True)
class Job:
    """What a worker does.

    Attributes:
        name: of the worker, for messages.
        work: called in the new process; a module's function, or a partial of one.
        log: where its log and, unless it is `heard`, its output go.
        environment: variables of the new process alone.
        heard: whether it has the console.
    """

    name: str
    work: Callable[[], Any]
    log: Path
    environment: Mapping[str, str]
    heard: bool = False


class Worker:
    """A started job.

    Args:
        job: what it does.

    Attributes:
        result: what the work returned.
        error: what went wrong, written for users, or the interruption; None where nothing did.
    """

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self.job = job
        self.result: Any = None
        self.error: BaseException | None = None
        self._receiver, sender = context.Pipe(duplex=False)
        arguments = (job, sender, HydraConfig.instance().cfg, allowed_plugins())
        self.process = context.Process(target=_live, args=arguments, name=job.name, daemon=True)
        self.process.start()
        sender.close()

    def take(self) -> None:
        """Takes what the work gave, once the process has ended."""
        self.process.join()
        with contextlib.suppress(EOFError):
            self.result, self.error = self._receiver.recv()
            return
        code = self.process.exitcode or 0
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        self.error = PmgError(f"{self.job.name} was ended {how}: see {self.job.log}; the same command goes on")


@contextlib.contextmanager
def working(jobs: Sequence[Job]) -> Iterator[list[Worker]]:
    """Starts jobs, and leaves none running: what is not done inside is interrupted, and killed where that lasts."""
    workers: list[Worker] = []
    try:
        for job in jobs:
            workers.append(Worker(job))
        yield workers
    finally:
        _end([worker.process for worker in workers])


def _end(started: Sequence[BaseProcess]) -> None:
    deadline = time.monotonic() + GRACE_S
    try:
        for process in started:
            process.terminate()
        for process in started:
            process.join(max(0.0, deadline - time.monotonic()))
    finally:  # also where Ctrl-C is pressed again
        for process in started:
            process.kill()
            process.join()


def work_together(jobs: Sequence[Job]) -> list[Any]:
    """Runs jobs that need each other, and returns their results; where one fails the others are ended.

    Raises:
        PmgError: the first that failed says why.
    """
    with working(jobs) as workers:
        for worker in _as_they_end(workers):
            if worker.error is not None:
                raise worker.error
        return [worker.result for worker in workers]


def work_apart(jobs: Sequence[Job]) -> None:
    """Runs jobs that don't need each other: where one fails the others go on to their end.

    Raises:
        PmgError: one or more failed; the first of them says why.
        KeyboardInterrupt: one was interrupted.
    """
    with working(jobs) as workers:
        failed = [worker.error for worker in _as_they_end(workers) if worker.error is not None]
    for interrupted in failed:
        if is_interrupt(interrupted):
            raise interrupted
    if failed:
        raise PmgError(f"{len(failed)} of {len(jobs)} shards failed; the others' work is kept. {failed[0]}")


def _as_they_end(workers: Sequence[Worker]) -> Iterator[Worker]:
    pending = {worker.process.sentinel: worker for worker in workers}
    while pending:
        for sentinel in connection.wait(list(pending)):
            worker = pending.pop(sentinel)
            worker.take()
            yield worker


def _live(job: Job, sender: connection.Connection, hydra: Any, plugins: Sequence[str]) -> None:
    """The new process from its start to its end."""
    # Ctrl-C reaches all of a terminal's processes: the parent passes it on
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupted)
    threading.Thread(target=_follow_parent, daemon=True).start()
    keep_freed_memory()
    register_configs()
    setup_globals()
    HydraConfig.instance().cfg = hydra  # which a config may refer to
    for name in plugins:
        allow_plugin(name)
    os.environ.update(job.environment)
    if not job.heard:
        _redirect(job.log)
    with log_file(job.log):
        try:
            sender.send((job.work(), None))
        except BaseException as error:
            log.error("%s failed", job.name, exc_info=error)
            sender.send((None, _for_users(error, job)))


def _interrupted(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _follow_parent() -> None:
    """Ends this process where its parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def _redirect(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())


def _for_users(error: BaseException, job: Job) -> BaseException:
    if is_interrupt(error):
        return KeyboardInterrupt()
    if isinstance(error, PmgError):
        return PmgError(str(error))
    first = next(iter(str(error).splitlines()), "")
    return PmgError(f"{job.name}: {type(error).__name__}: {first} (traceback in {job.log})")
