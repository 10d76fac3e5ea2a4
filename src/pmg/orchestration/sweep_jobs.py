"""Jobs of a sweep in worker processes of a launcher: each runs in a child process, which may fail or be killed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

from pmg.runs.process_state import RunFailedError

GRACE_S = 60  # for interrupted jobs, to save
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)  # SLURM sends the last two before a timeout
_PR_SET_PDEATHSIG = 1  # of Linux


def run_in_child(job: Callable[[], object]) -> None:
    """Runs `job` in a child process, so that a job killed for its memory doesn't end the worker and its other jobs.

    RunFailedError if the child failed or was killed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _run_and_exit(job)
    try:
        _, status = os.waitpid(child, 0)
    except BaseException:  # the worker is interrupted: the job saves its state first
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        raise
    if code := os.waitstatus_to_exitcode(status):
        raise RunFailedError(code if code > 0 else 1)


def end_with_parent() -> None:
    """Has this process get a SIGTERM when its parent ends, also by a SIGKILL; on Linux, elsewhere it does nothing.

    joblib's workers (loky 3.5) don't notice that the process of the sweep was killed: they would run their jobs to the
    end, and then wait for others.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _run_and_exit(job: Callable[[], object]) -> None:
    """Runs `job` and ends the process, without the exit handlers that were inherited from the worker."""
    code = 1
    try:
        end_with_parent()
        for number in SIGNALS:
            signal.signal(number, _interrupt_once)
        job()
        code = 0
    except RunFailedError as failure:
        code = failure.exit_code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _interrupt_once(signum: int, frame: FrameType | None) -> None:
    """Raises KeyboardInterrupt and ignores further signals, which would interrupt the saving."""
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    raise KeyboardInterrupt


def interrupt_jobs(running: Callable[[], set[int]]) -> None:
    """Interrupts jobs in descendants of this process and waits until they have saved; launchers don't wait.

    `running` returns the process ids of the running jobs, of this machine and others.
    """
    import psutil

    signalled: set[int] = set()
    end = time.monotonic() + GRACE_S
    while time.monotonic() < end:
        left = running() & {child.pid for child in psutil.Process().children(recursive=True)}
        if not left:
            return
        for number in left - signalled:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGTERM)
        signalled |= left
        time.sleep(0.2)


def init_ray(options: dict[str, Any]) -> None:
    """Connects to a Ray cluster, which Hydra's launcher can't, or starts one; keeps the handler of SIGTERM."""
    import ray

    handler = signal.getsignal(signal.SIGTERM)
    ray.init(**options)
    signal.signal(signal.SIGTERM, handler)
