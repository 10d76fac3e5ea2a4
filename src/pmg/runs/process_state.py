"""State of the process: rank, log handlers, and the global settings that a job must restore."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from logging.handlers import MemoryHandler
from pathlib import Path

from pmg.domain import PmgError

# of glibc's mallopt (malloc.h)
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST_BLOCK = 2**30  # bytes
MAX_RECORDS = 10_000  # buffered log records


def keep_freed_memory() -> None:
    """Stops glibc from returning freed memory to the system; has no effect with other C libraries.

    By default glibc returns large blocks at once, and the system zeroes each page at its next use: 25,000 page faults
    in a training step on the CPU, a tenth of its time.
    """
    if (adjust := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:  # other C libraries don't have it
        adjust(TRIM_THRESHOLD, 2**31 - 1)
        adjust(MMAP_THRESHOLD, LARGEST_BLOCK)


def rank() -> int:
    """Returns this process's rank, as set by torchrun or SLURM; 0 without a launcher."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)


def check_rank() -> None:
    """Checks the variables of a launcher: a process alone must not believe that another one writes its results.

    PmgError if a rank is no number, or belongs to no process of `WORLD_SIZE`.
    """
    for rank_name, count_name in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
        number, count = os.environ.get(rank_name) or "0", os.environ.get(count_name) or "1"
        if not (number.isdigit() and count.isdigit() and int(number) < int(count)):
            raise PmgError(
                f"{rank_name}={number} is set, with {count_name}={os.environ.get(count_name) or 'unset'}: unset it, "
                "or start the processes by torchrun or srun"
            )


def local_rank() -> int | None:
    """Returns this process's rank on its machine, as set by torchrun or SLURM; None without a launcher."""
    number = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID")
    return int(number) if number else None


def is_main_process(command: str) -> bool:
    """Returns whether this process writes files: rank 0 in commands that train, else every process."""
    return rank() == 0 or command not in ("train", "study")


class RunFailedError(Exception):
    """A run failed and its error was printed; carries the exit code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class _SilentFileHandler(logging.FileHandler):
    """Ignores write errors: on a full disk they would hide the error that users must see."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Does nothing."""


@contextlib.contextmanager
def log_file(path: Path, at_once: bool = True) -> Iterator[Callable[[], None]]:
    """Appends log records to a file, and yields a function that starts the writing.

    Unless they are written `at_once`, records are buffered until this function is called, and dropped if it never is.
    """
    open_files = {one.baseFilename for one in logging.getLogger().handlers if isinstance(one, _SilentFileHandler)}
    if os.path.abspath(path) in open_files:  # a process of a pool has opened it
        yield lambda: None
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _SilentFileHandler(path, delay=not at_once)
    except OSError as error:
        print(f"error: can't write the run folder {path.parent}: {error.strerror}", file=sys.stderr)
        raise RunFailedError(1) from error
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] %(message)s"))
    kept = MemoryHandler(MAX_RECORDS, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
    root, level = logging.getLogger(), logging.getLogger().level

    def release() -> None:
        """Writes the records that were kept into the file, and the next ones at once."""
        if kept in root.handlers:
            root.removeHandler(kept)
            root.addHandler(handler)
            kept.setTarget(handler)
            kept.flush()

    root.addHandler(handler if at_once else kept)
    root.setLevel(min(level, logging.INFO) if level else logging.INFO)
    try:
        yield release
    finally:
        root.removeHandler(kept)
        root.removeHandler(handler)
        root.setLevel(level)
        with contextlib.suppress(OSError):
            handler.close()


@contextlib.contextmanager
def file_only() -> Iterator[None]:
    """Removes the console handlers inside, so that records are written to the log file only."""
    files = (logging.FileHandler, MemoryHandler)  # the latter keeps records until a run begins
    consoles = [handler for handler in logging.getLogger().handlers if not isinstance(handler, files)]
    for handler in consoles:
        logging.getLogger().removeHandler(handler)
    try:
        yield
    finally:
        for handler in consoles:
            logging.getLogger().addHandler(handler)


@contextlib.contextmanager
def restored_state() -> Iterator[None]:
    """Restores environment, signal handlers and torch's global settings after a job of a sweep."""
    environment = dict(os.environ)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    torch = sys.modules.get("torch")
    dtype = torch.get_default_dtype() if torch else None
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)  # Lightning ignores Ctrl-C once it has seen one
        if torch := sys.modules.get("torch"):
            torch.set_default_dtype(dtype or torch.float32)
            torch.set_grad_enabled(True)
            torch.use_deterministic_algorithms(False)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
