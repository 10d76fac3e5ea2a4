"""What ended a run: its exit code, and one line for the user."""

from __future__ import annotations

import errno
from pathlib import Path

from omegaconf.errors import OmegaConfBaseException

from pmg.domain import PmgError

INTERRUPTED = 130  # what a shell reports for a program ended by Ctrl-C
REMEDIES = {errno.ENOSPC: "make room", errno.EDQUOT: "make room", errno.EROFS: "make it writable"}


def is_interrupt(error: BaseException) -> bool:
    """Returns whether the user pressed Ctrl-C; Lightning turns that into a SystemExit."""
    by_lightning = isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt)
    return isinstance(error, KeyboardInterrupt) or by_lightning


def exit_code(error: BaseException) -> int:
    """Returns what a shell is told about a run that `error` ended."""
    if is_interrupt(error):
        return INTERRUPTED
    return error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1


def one_line(error: BaseException, folder: Path, log: Path) -> str:
    """Returns what the user can act on: the message alone where it was written for users.

    Args:
        error: what ended the run.
        folder: of the run.
        log: that has the stack trace.
    """
    first = next(iter(str(error).splitlines()), "")
    if isinstance(error, PmgError):
        return " ".join(str(error).split())
    if isinstance(error, OmegaConfBaseException):
        key = f" (key '{error.full_key}')" if error.full_key else ""
        return f"config: {first}{key}"
    if isinstance(error, OSError) and error.errno in REMEDIES:
        return f"can't write into {folder}: {error.strerror}; {REMEDIES[error.errno]} and run the same command again"
    return f"{type(error).__name__}: {first} (traceback in {log})"
