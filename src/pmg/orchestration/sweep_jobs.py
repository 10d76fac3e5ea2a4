"""Jobs of a sweep that a launcher runs in other processes: each in a child that can die, or stop, on its own."""

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

GRACE = 60  # seconds in which interrupted jobs may save
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)  # SLURM sends the last ones before a timeout
_DEATH_OF_PARENT = 1  # Linux' PR_SET_PDEATHSIG


def apart(job: Callable[[], object]) -> None:
    """Runs `job` in a child of this worker; one that is killed for its memory costs neither worker nor other jobs.

    Raises:
        RunFailedError: the child failed or was killed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _end_with(job)
    try:
        _, status = os.waitpid(child, 0)
    except BaseException:  # the worker is stopped: first the job saves what it has
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        raise
    if code := os.waitstatus_to_exitcode(status):
        raise RunFailedError(code if code > 0 else 1)


def _end_with(job: Callable[[], object]) -> None:
    """Runs `job` as the child's whole life; nothing of the worker's may run after it."""
    code = 1
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_DEATH_OF_PARENT, signal.SIGTERM)
        for number in SIGNALS:
            signal.signal(number, _stop_once)
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


def _stop_once(signum: int, frame: FrameType | None) -> None:
    """Interrupts; more signals, which a launcher or cluster may send, must not disturb the saving."""
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    raise KeyboardInterrupt


def stop(running: Callable[[], set[int]]) -> None:
    """Interrupts jobs in processes below this one and waits until they have saved; launchers don't give them time.

    Args:
        running: the process numbers of the jobs that are running now, of this machine or another.
    """
    import psutil

    told: set[int] = set()
    end = time.monotonic() + GRACE
    while time.monotonic() < end:
        left = running() & {child.pid for child in psutil.Process().children(recursive=True)}
        if not left:
            return
        for number in left - told:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGTERM)
        told |= left
        time.sleep(0.2)


def join_ray(options: dict[str, Any]) -> None:
    """Starts a Ray cluster, or joins one, before Hydra's launcher does: it can join none, and Ray takes SIGTERM away.

    Args:
        options: of ``ray.init``.
    """
    import ray

    handler = signal.getsignal(signal.SIGTERM)
    ray.init(**options)
    signal.signal(signal.SIGTERM, handler)
