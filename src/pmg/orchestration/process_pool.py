"""Worker processes on this machine: ranks of one training, and independent shards."""

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

GRACE_S = 60  # to save a checkpoint after an interruption


@dataclass(frozen=True)
class Task:
    """The work of one process."""

    name: str  # for messages
    work: Callable[[], Any]  # called in the new process; a module's function or a partial of one: it is pickled
    log: Path  # file of its log records and, without `console`, of its output
    environment: Mapping[str, str]  # variables that are set in the new process only
    console: bool = False  # whether stdout and stderr stay those of the parent


class Worker:
    """A started process, and the result of its work or the `error`, a `PmgError` or KeyboardInterrupt."""

    def __init__(self, task: Task) -> None:
        context = multiprocessing.get_context("spawn")
        self.task = task
        self.result: Any = None
        self.error: BaseException | None = None
        self._receiver, sender = context.Pipe(duplex=False)
        arguments = (task, sender, HydraConfig.instance().cfg, allowed_plugins())
        self.process = context.Process(target=_worker_main, args=arguments, name=task.name, daemon=True)
        self.process.start()
        sender.close()

    def collect(self) -> None:
        """Waits for the end of the process and sets `result` and `error`."""
        self.process.join()
        with contextlib.suppress(EOFError):
            self.result, self.error = self._receiver.recv()
            return
        code = self.process.exitcode or 0
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self.error = PmgError(f"{self.task.name} was {how}: see {self.task.log}. Run the same command to resume.")


@contextlib.contextmanager
def started_workers(tasks: Sequence[Task]) -> Iterator[list[Worker]]:
    """Starts one worker a task; at exit, those still running are interrupted, and killed after `GRACE_S`."""
    workers: list[Worker] = []
    try:
        for task in tasks:
            workers.append(Worker(task))
        yield workers
    finally:
        deadline = time.monotonic() + GRACE_S
        try:
            for worker in workers:
                worker.process.terminate()
            for worker in workers:
                worker.process.join(max(0.0, deadline - time.monotonic()))
        finally:  # also after a second Ctrl-C
            for worker in workers:
                worker.process.kill()
                worker.process.join()


def run_ranks(tasks: Sequence[Task]) -> list[Any]:
    """Returns the results of tasks that communicate with each other; the first failure is raised and ends them all."""
    with started_workers(tasks) as workers:
        for worker in _as_completed(workers):
            if worker.error is not None:
                raise worker.error
        return [worker.result for worker in workers]


def run_shards(tasks: Sequence[Task]) -> None:
    """Runs independent tasks to their end, also after one of them has failed.

    PmgError with the number of failed tasks and the error of the first; KeyboardInterrupt if a task was interrupted.
    """
    with started_workers(tasks) as workers:
        failed = [worker.error for worker in _as_completed(workers) if worker.error is not None]
    if interrupted := next(filter(is_interrupt, failed), None):
        raise interrupted
    if failed:
        raise PmgError(f"{len(failed)} of {len(tasks)} shards failed; the others' results are kept. {failed[0]}")


def _as_completed(workers: Sequence[Worker]) -> Iterator[Worker]:
    pending: dict[Any, Worker] = {worker.process.sentinel: worker for worker in workers}
    while pending:
        for sentinel in connection.wait(list(pending)):
            worker = pending.pop(sentinel)
            worker.collect()
            yield worker


def _worker_main(task: Task, sender: connection.Connection, hydra: Any, plugins: Sequence[str]) -> None:
    # a terminal sends Ctrl-C to every process: the parent forwards it as SIGTERM
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_watch_parent, daemon=True).start()
    keep_freed_memory()
    register_configs()
    setup_globals()
    HydraConfig.instance().cfg = hydra  # resolves ${hydra:...} in the config
    for name in plugins:
        allow_plugin(name)
    os.environ.update(task.environment)
    if not task.console:
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with task.log.open("ab") as file:
            for stream in (sys.stdout, sys.stderr):
                os.dup2(file.fileno(), stream.fileno())
    with log_file(task.log):
        try:
            sender.send((task.work(), None))
        except BaseException as error:
            if is_interrupt(error):
                log.warning("%s was interrupted", task.name)
            else:
                log.error("%s failed", task.name, exc_info=error)
            sender.send((None, _user_error(error, task)))


def _interrupt(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _watch_parent() -> None:
    """Ends this process when its parent has been killed."""
    if (parent := multiprocessing.parent_process()) is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def _user_error(error: BaseException, task: Task) -> BaseException:
    """Returns a picklable error: an interruption, or one line for users."""
    if is_interrupt(error):
        return KeyboardInterrupt()
    if isinstance(error, PmgError):
        return PmgError(str(error))
    first = next(iter(str(error).splitlines()), "")
    return PmgError(f"{task.name}: {type(error).__name__}: {first} (traceback in {task.log})")
