"""Locks of folders: one command at a time writes into each."""

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
    """Holds the locks of folders, which are made where they are missing; a process that dies leaves them free.

    Args:
        folders: those that this process holds already, for a run around this one, are left out.
        command: the verb, for other processes' messages.

    Raises:
        PmgError: another process writes into one of them, or it can't be written.
    """
    with contextlib.ExitStack() as stack:
        for folder in folders:
            stack.enter_context(_lock(folder, command))
        yield


@contextlib.contextmanager
def _lock(folder: Path, command: str) -> Iterator[None]:
    from filelock import FileLock, Timeout

    path = folder.resolve() / LOCK
    if path in _held:
        yield
        return
    lock = FileLock(path, timeout=0)
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


def _owner(path: Path) -> str:
    with contextlib.suppress(OSError):
        if text := path.read_text().strip():
            return text
    return "another process"
