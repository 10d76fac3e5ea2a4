"""File locks: only one command at a time writes into a folder."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

from pmg.domain import PmgError

LOCK = ".lock"
_held: set[Path] = set()


@contextlib.contextmanager
def locked(folders: Iterable[Path], command: str) -> Iterator[None]:
    """Locks folders, which are created if missing; the system releases the locks when the process ends.

    Those that this process has locked already, for an outer run, are skipped. Folders that were made for their lock
    and are empty at the end are removed. PmgError if another process has locked a folder, or a folder isn't writable.
    """
    with contextlib.ExitStack() as stack:
        for folder in folders:
            stack.enter_context(_lock(folder, command))
        yield


def is_locked(folder: Path) -> bool:
    """Returns whether this process has locked a folder, for an outer run."""
    return folder.resolve() / LOCK in _held


@contextlib.contextmanager
def _lock(folder: Path, command: str) -> Iterator[None]:
    from filelock import FileLock, Timeout

    path = folder.resolve() / LOCK
    if path in _held:
        yield
        return
    lock = FileLock(path, timeout=0)
    missing = [place for place in path.parents if not place.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        path.write_text(f"pmg-{command} (process {os.getpid()} on {socket.gethostname()})")
    except Timeout:
        raise PmgError(
            f"{folder} is being written by {_owner(path)}. Wait for its end, or name another folder"
        ) from None
    except OSError as error:
        lock.release()
        raise PmgError(f"can't write {folder}: {error.strerror}") from error
    _held.add(path)
    try:
        yield
    finally:
        _held.discard(path)
        path.unlink(missing_ok=True)
        lock.release()
        with contextlib.suppress(OSError):  # it holds something
            for place in missing:
                place.rmdir()


def _owner(path: Path) -> str:
    with contextlib.suppress(OSError):
        if text := path.read_text().strip():
            return text
    return "another process"
