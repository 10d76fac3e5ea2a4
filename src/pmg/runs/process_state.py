"""What a job shares with its process: the log handlers and the global state that it must give back."""

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

# of glibc's mallopt (malloc.h)
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST_BLOCK = 2**30  # bytes
MOST_RECORDS = 10_000  # of a log that isn't written yet


def keep_freed_memory() -> None:
    """Lets this process keep memory that it has freed; does nothing where the C library isn't glibc.

    Else glibc gives large blocks back at once, and the system clears each page again when it is next touched: in a
    training step on a processor that were 25,000 page faults, a tenth of its time.
    """
    adjust = getattr(ctypes.CDLL(None), "mallopt", None)  # libraries that lack it have another allocator
    if adjust is not None:
        adjust(TRIM_THRESHOLD, 2**31 - 1)
        adjust(MMAP_THRESHOLD, LARGEST_BLOCK)


def rank() -> int:
    """The number of this process among those that a launcher started to train together; 0 where it is alone."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)


def leads(command: str) -> bool:
    """Whether this process writes: in commands that train, the first of those that torchrun or a cluster started."""
    return rank() == 0 or command not in ("train", "study")


class RunFailedError(Exception):
    """A run ended badly and has said so already; only the exit code is left to pass on."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


@contextlib.contextmanager
def log_file(path: Path, at_once: bool = True) -> Iterator[Callable[[], None]]:
    """Appends everything that is logged inside to the run's own log.

    Args:
        path: of the log.
        at_once: whether it is written from the start; else records are kept until the function that is yielded is
            called, and nothing is written where it isn't.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, delay=not at_once)
        handler.handleError = lambda record: None  # on a full disk the error itself is what the user must see
    except OSError as error:
        print(f"error: can't write the run folder {path.parent}: {error.strerror}", file=sys.stderr)
        raise RunFailedError(1) from error
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] %(message)s"))
    kept = MemoryHandler(MOST_RECORDS, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
    root, level = logging.getLogger(), logging.getLogger().level

    def release() -> None:
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
    """Silences the console handlers: a stack trace belongs in the log, one line on the screen."""
    consoles = [h for h in logging.getLogger().handlers if not isinstance(h, logging.FileHandler)]
    for handler in consoles:
        logging.getLogger().removeHandler(handler)
    try:
        yield
    finally:
        for handler in consoles:
            logging.getLogger().addHandler(handler)


@contextlib.contextmanager
def restored_state() -> Iterator[None]:
    """Undoes what a job leaves in its process, so that the next job of a sweep starts as if alone."""
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
        torch = sys.modules.get("torch")
        if torch:
            torch.set_default_dtype(dtype or torch.float32)
            torch.set_grad_enabled(True)
            torch.use_deterministic_algorithms(False)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
