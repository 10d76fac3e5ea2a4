"""What ended a run: its exit code, and one line for the user."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

from omegaconf.errors import OmegaConfBaseException

from pmg.domain import PmgError

INTERRUPTED = 130  # what a shell reports for a program ended by Ctrl-C
CLOSED_PIPE = 141  # what a shell reports for a program whose reader went away
REMEDIES = {errno.ENOSPC: "make room", errno.EDQUOT: "make room", errno.EROFS: "make it writable"}
_FULL = ("No space left on device", "os error 28", "disk is full", "PytorchStreamWriter failed")


def is_interrupt(error: BaseException) -> bool:
    """Returns whether the user pressed Ctrl-C; Lightning turns that into a SystemExit."""
    by_lightning = isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt)
    return isinstance(error, KeyboardInterrupt) or by_lightning


def exit_code(error: BaseException) -> int:
    """Returns what a shell is told about a run that `error` ended."""
    if is_interrupt(error):
        return INTERRUPTED
    return error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1


def _unwritable(error: BaseException) -> tuple[str, str] | None:
    """Returns why a disk took no more and what to do; None where that isn't what happened."""
    if isinstance(error, OSError) and error.errno in REMEDIES:
        return str(error.strerror), REMEDIES[error.errno]
    if any(words in str(error) for words in _FULL):  # libraries in Rust and C++ raise errors of their own
        return os.strerror(errno.ENOSPC), REMEDIES[errno.ENOSPC]
    return None


def _written_folder(error: BaseException, folder: Path) -> Path:
    """Returns the folder that was written: the error's own, else the fullest of those that a run writes into."""
    if isinstance(error, OSError) and error.filename:
        return Path(os.fsdecode(error.filename)).parent
    places = [place for place in (folder, Path(tempfile.gettempdir())) if place.exists()]
    return min(places, key=lambda place: shutil.disk_usage(place).free, default=folder)


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
    if reason := _unwritable(error):
        text, remedy = reason
        return f"can't write into {_written_folder(error, folder)}: {text}; {remedy} and run the same command again"
    return f"{type(error).__name__}: {first} (traceback in {log})"
