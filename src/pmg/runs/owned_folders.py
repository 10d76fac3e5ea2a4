"""Whose a folder is: one command at a time writes into one that is new, empty or its own, never into the assets."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pmg.cache import Cache, atomic_write_json
from pmg.domain import PmgError
from pmg.installation import find_assets
from pmg.paths import display_path, is_same_folder
from pmg.runs.run_folder import METRICS_FILE, SHARDS, read_json

OWNER = ".pmg.json"  # in each folder that a run writes: its command and folder, and a hash of its identity
OF_SWEEPS = ("multirun.yaml", "optimization_results.yaml", "study.db")  # that Hydra and its sweepers write
OF_SYSTEMS = re.compile(r"\.(DS_Store|directory|git\w*|hydra|submitit|ipynb_checkpoints|pmg.*|.*lock)")
"""Hidden names in folders that count as empty: of file managers, git, Hydra, notebooks and locks."""
CACHED = re.compile(
    r"[0-9a-f]{2}|[0-9a-f]{64}|\..*|.*\.lock|contexts|preference|latents|models|compiled|looks|npm|digests\.json"
)
"""Names in folders of caches."""
CACHES = ("cache_dir", "contexts_dir", "latents_dir")  # keys of `paths`
RESULTS = "results.json"  # finished results, which only the same run may replace
LOCK = ".lock"
_held: set[Path] = set()  # locks of this process


def refuse_foreign(
    folders: Iterable[Path], run_dir: Path, command: str, identity: Mapping[str, Any], assets: str | None
) -> None:  # fmt: skip
    """Checks, before anything is written, that the folders that a run writes are new, empty, or its command's own.

    PmgError if one has files of others, or results of a run with another `identity`, or is inside `assets`.
    """
    for folder in folders:
        refuse_assets(folder, assets)
        owner, shown = read_json(folder / OWNER), display_path(folder)
        if folder.is_file():
            raise PmgError(f"{shown} is a file; name a folder")
        if (folder / METRICS_FILE).is_file():
            if is_same_folder(folder, run_dir):
                continue  # whose record says whose it is, see `refuse_other`
            raise PmgError(f"{shown} is the folder of a run; name another one for results")
        if owner.get("command") not in (None, command):
            raise PmgError(f"{shown} belongs to pmg-{owner['command']}; name another folder")
        if not owner:
            _refuse_files(folder)
            inside = [path.name for path in folder.glob("*/") if path.name != SHARDS and _holds_run(path)]
            if inside and is_same_folder(folder, run_dir):
                raise PmgError(f"{shown} holds folders of runs, e.g. {min(inside)}; name a new one for this run")
        same = owner.get("identity") == Cache.key(**identity) or is_same_folder(owner.get("run"), run_dir)
        if owner and not same and (folder / RESULTS).exists():
            raise PmgError(f"{shown} holds results of another run of pmg-{command}: name another results_dir")


def refuse_cache(key: str, folder: str, assets: str | None) -> None:
    """Checks that the folder at `key` is new, empty, or of caches alone, in no assets, else raises PmgError."""
    refuse_assets(Path(folder), assets, key)
    if Path(folder).is_dir() and (other := [p.name for p in Path(folder).iterdir() if not CACHED.fullmatch(p.name)]):
        raise PmgError(f"{key}={folder} holds something else than caches, e.g. {min(other)}; name a new folder")


def refuse_sweep(folder: Path) -> None:
    """Checks that the folder of a sweep is new, empty, or holds folders of runs alone, else raises PmgError."""
    if (folder / METRICS_FILE).is_file():
        raise PmgError(f"{display_path(folder)} is the folder of a run; name another one for the sweep")
    _refuse_files(folder)


def claim(folders: Iterable[Path], run_dir: Path, command: str, identity: Mapping[str, Any]) -> None:
    """Records in folders whose they are."""
    record = {"command": command, "run": str(run_dir.absolute()), "identity": Cache.key(**identity)}
    for folder in folders:
        atomic_write_json(folder / OWNER, record)


def refuse_assets(folder: Path, assets: str | None, key: str = "a folder of this run") -> None:
    """Raises PmgError if a folder, the value of `key`, is inside a folder of embedded models and data."""
    for place in filter(None, (assets, find_assets())):
        if folder.resolve().is_relative_to(Path(place).resolve()):
            raise PmgError(f"{key}, {display_path(folder)}, lies in the assets, which only into=assets replaces")


def _refuse_files(folder: Path) -> None:
    """Checks that a folder is new, empty, or holds folders of runs alone."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if OF_SYSTEMS.fullmatch(path.name) or path.name in OF_SWEEPS or _is_log(path):
            continue
        if path.is_file() or (any(map(Path.is_file, path.rglob("*"))) and not _holds_run(path)):
            raise PmgError(
                f"{display_path(folder)} holds files that aren't pmg's, e.g. {path.name}; name a new or empty folder"
            )


def _is_log(path: Path) -> bool:
    """Returns whether a file is a log of pmg or Hydra, which a command that was refused leaves behind."""
    if path.suffix != ".log" or not path.is_file():
        return False
    with path.open("rb") as file:
        return re.match(rb"\[\d{4}-\d\d-\d\d |$", file.read(12)) is not None


def _holds_run(folder: Path) -> bool:
    """Returns whether a folder is a run's, or holds folders of runs, as those of studies and sweeps do."""
    patterns = [f"{depth}{name}" for depth in ("", "*/", "*/*/") for name in (OWNER, METRICS_FILE)]
    return any("command" in read_json(place) for pattern in patterns for place in folder.glob(pattern))


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
