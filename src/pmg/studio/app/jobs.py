"""One bounded queue of jobs, which a single thread runs in their order."""

from __future__ import annotations

import logging
import queue
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pmg.domain import PmgError

log = logging.getLogger(__name__)
KEPT = 32  # finished jobs


class CancelledError(Exception):
    """The job was cancelled."""


@dataclass
class Job:
    """A job, its results so far by name, and its progress: the `step`, and the share that is done, in [0, 1].

    Attributes:
        id: random code, needed to read or cancel it.
        status: ``waiting``, ``running``, ``done``, ``failed`` or ``cancelled``.
        error: one line, of a failed job.
        stopped: set once it was cancelled.
        work: what it will do, with the pictures that it holds; None once it began or was cancelled.
    """

    id: str = field(default_factory=lambda: secrets.token_hex(16))
    status: str = "waiting"
    step: str = ""
    progress: float = 0.0
    results: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    stopped: threading.Event = field(default_factory=threading.Event)
    work: Callable[[Job], None] | None = None

    def report(self, step: str, progress: float) -> None:
        """Sets step and progress; CancelledError if the job was cancelled."""
        self.check()
        self.step, self.progress = step, progress

    def check(self) -> None:
        """Checks that the job was not cancelled, else raises CancelledError."""
        if self.stopped.is_set():
            raise CancelledError


class JobQueue:
    """Runs jobs one by one; `largest` is the number of jobs that may wait."""

    def __init__(self, largest: int = 8) -> None:
        self.largest = largest
        self.waiting: queue.Queue[Job] = queue.Queue()  # cancelled ones, too
        self.jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()
        threading.Thread(target=self._run, daemon=True, name="jobs").start()

    def add(self, work: Callable[[Job], None]) -> Job:
        """Adds a job at the end; PmgError if too many wait."""
        job = Job(work=work)
        with self._lock:
            if sum(one.status == "waiting" for one in self.jobs.values()) >= self.largest:
                raise PmgError(f"{self.largest} jobs are waiting already. Try again in a minute.")
            self.jobs[job.id] = job
            finished = [one.id for one in self.jobs.values() if one.status not in ("waiting", "running")]
            for old in finished[: max(0, len(finished) - KEPT)]:
                del self.jobs[old]
        self.waiting.put(job)
        return job

    def find(self, code: str) -> Job:
        """Returns a job by its code; PmgError if there is none."""
        if (job := self.jobs.get(code)) is None:
            raise PmgError("this job doesn't exist any more. Generate again.")
        return job

    def state(self, code: str) -> Mapping[str, Any]:
        """Returns a job, JSON-able, with the number of jobs before it."""
        job = self.find(code)
        with self._lock:
            order = [one.id for one in self.jobs.values() if one.status in ("waiting", "running")]
        before = order.index(code) if code in order else 0
        names = ("id", "status", "step", "progress", "results", "error")
        return {**{name: getattr(job, name) for name in names}, "before": before}

    def cancel(self, code: str) -> None:
        """Cancels a job: at once if it waits, else at its next `Job.check`."""
        job = self.find(code)
        job.stopped.set()
        if job.status == "waiting":
            job.status, job.work = "cancelled", None

    def _run(self) -> None:
        while True:
            job = self.waiting.get()
            work, job.work = job.work, None
            if work is None or job.stopped.is_set():
                continue
            job.status = "running"
            try:
                work(job)
                job.status, job.progress = "done", 1.0
            except CancelledError:
                job.status = "cancelled"
            except PmgError as error:
                job.error, job.status = " ".join(str(error).split()), "failed"
            except Exception as error:
                log.exception("a job failed")
                job.error = f"the generation failed ({type(error).__name__}). The log has the reason."
                job.status = "failed"
            del work  # with the pictures that it holds
