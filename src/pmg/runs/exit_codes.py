"""Exit codes and one-line messages of errors."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

from omegaconf.errors import OmegaConfBaseException

from pmg.domain import PmgError

INTERRUPTED = 130  # 128 + SIGINT: a shell's code for Ctrl-C
CLOSED_PIPE = 141  # 128 + SIGPIPE: a shell's code for a closed pipe
REMEDIES = {errno.ENOSPC: "make room", errno.EDQUOT: "make room", errno.EROFS: "make it writable"}
PACKAGE = str(Path(__file__).resolve().parents[1])
_FULL = ("No space left on device", "os error 28", "disk is full", "PytorchStreamWriter failed")


def exit_code(error: BaseException) -> int:
    """Returns the exit code of a run that `error` ended."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if not isinstance(error, SystemExit):
        return 1
    if error.__context__ and is_interrupt(error.__context__):  # by Lightning, after a Ctrl-C
        return INTERRUPTED
    return error.code if isinstance(error.code, int) else 1


def is_interrupt(error: BaseException) -> bool:
    """Returns whether `error` is a Ctrl-C, which Lightning turns into a SystemExit."""
    return exit_code(error) == INTERRUPTED


def one_line(error: BaseException, folder: Path, log: Path) -> str:
    """Returns an error in one line; for errors that users can't resolve, with type and log file."""
    first = next(iter(str(error).splitlines()), "")
    if isinstance(error, PmgError):
        return " ".join(str(error).split())
    if isinstance(error, OmegaConfBaseException):
        return f"config: {first}" + (f" (key '{error.full_key}')" if error.full_key else "")
    if isinstance(error, OSError) and error.errno in REMEDIES:
        file = error.filename2 or error.filename  # a copy's target comes second
        return _write_failure(error.errno, Path(os.fsdecode(file)).parent if file else _fullest(folder))
    if any(words in str(error) for words in _FULL):  # libraries in Rust and C++ don't raise OSError
        return _write_failure(errno.ENOSPC, _fullest(folder))
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith((sys.prefix, sys.base_prefix, PACKAGE, "<"))]
    where = f" in {own[-1].filename}, line {own[-1].lineno}" if own else ""  # of a plug-in
    return f"{type(error).__name__}: {first}{where} (traceback in {log})"


def _write_failure(number: int, folder: Path) -> str:
    return f"can't write into {folder}: {os.strerror(number)}; {REMEDIES[number]} and run the same command again"


def _fullest(folder: Path) -> Path:
    """Returns the folder with the least free space that a run writes into."""
    places = [place for place in (folder, Path(tempfile.gettempdir())) if place.exists()]
    return min(places, key=lambda place: shutil.disk_usage(place).free, default=folder)
