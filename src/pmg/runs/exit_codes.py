"""Exit codes and one-line messages of errors.

Handling: `pmg.orchestration.launcher` (signals), `pmg.training.callbacks.StopBetweenSteps` (trainings),
`pmg.orchestration.run` (what a run records).
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

from omegaconf.errors import OmegaConfBaseException

from pmg.domain import PmgError

INTERRUPTED = 130  # 128 + SIGINT: a shell's code for Ctrl-C
CLOSED_PIPE = 141  # 128 + SIGPIPE: a shell's code for a closed pipe
REMEDIES = {errno.ENOSPC: "make room", errno.EDQUOT: "make room", errno.EROFS: "make it writable"}
_FULL = ("No space left on device", "os error 28", "disk is full", "PytorchStreamWriter failed")


def is_interrupt(error: BaseException) -> bool:
    """Returns whether `error` is a Ctrl-C, which Lightning turns into a SystemExit."""
    by_lightning = isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt)
    return isinstance(error, KeyboardInterrupt) or by_lightning


def exit_code(error: BaseException) -> int:
    """Returns the exit code of a run that `error` ended."""
    if is_interrupt(error):
        return INTERRUPTED
    return error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1


def _unwritable(error: BaseException) -> tuple[str, str] | None:
    """Returns reason and remedy of a failed write, or None for other errors."""
    if isinstance(error, OSError) and error.errno in REMEDIES:
        return str(error.strerror), REMEDIES[error.errno]
    if any(words in str(error) for words in _FULL):  # libraries in Rust and C++ don't raise OSError
        return os.strerror(errno.ENOSPC), REMEDIES[errno.ENOSPC]
    return None


def _written_folder(error: BaseException, folder: Path) -> Path:
    """Returns the folder of the error's file, or the folder with the least free space that a run writes into."""
    if isinstance(error, OSError) and error.filename:
        return Path(os.fsdecode(error.filename2 or error.filename)).parent  # a copy's target comes second
    places = [place for place in (folder, Path(tempfile.gettempdir())) if place.exists()]
    return min(places, key=lambda place: shutil.disk_usage(place).free, default=folder)


def one_line(error: BaseException, folder: Path, log: Path) -> str:
    """Returns an error in one line; for errors that users can't resolve, with type and log file.

    Args:
        error: the error that ended the run.
        folder: the run folder.
        log: the log with the traceback.
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
