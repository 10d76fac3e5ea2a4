"""Digests of files that a config names: data sets and weights decide a result as much as the config's values."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pmg.cache import atomic_write_json
from pmg.configuration.trees import leaves
from pmg.domain import PmgError
from pmg.installation import PACKAGE_SCHEME, find_in_package
from pmg.paths import display_path

CONTENT = "content"  # last part of a digest's key, behind that of the path: generator.codec.folder.content
PATHS = (
    "folder", "file", "source", "weights", "items", "interactions", "images", "posters", "annotations", "start",
    "generator_folder", "codec_folder", "decoder_folder", "large_folder", "tokenizer", "processors",
)  # fmt: skip
"""Last parts of keys whose value may name a file or folder that is read."""
NO_INPUTS = ("stage.folder", "stage.pool.folder", "card.", "paths.", "plugins.", "source.packs.")
"""Beginnings of keys that are left out: folders that a command writes, or that lie in archives."""
NO_CONTENT = (".md", ".lock", ".log", ".sha256")  # a model's card says how it was made, and may be written anew
MEMO = "digests.json"  # in `paths.cache_dir`
_known: dict[str, tuple[tuple[int, ...], str]] = {}


def digest_content(places: Mapping[str, str], cache_dir: str | None = None) -> dict[str, str]:
    """Returns the digests of the files and folders on this machine that values of a config name, by key.

    A file is read once, and again when its size, times or inode change; digests are kept in `cache_dir` if it exists.
    `places` are values that may name what a command reads, see `names_content`. PmgError if a file can't be read.
    """
    memo = None if cache_dir is None else Path(cache_dir, MEMO)
    if memo is not None and not _known:
        _known.update(_read_memo(memo))
    before, found = dict(_known), {}
    for key, value in places.items():
        path = find_in_package(value) if value.startswith(PACKAGE_SCHEME) else Path(value)
        try:
            if path is not None and path.exists():
                found[f"{key}.{CONTENT}"] = digest_path(path) or ""
        except OSError as error:
            raise PmgError(f"{key}: can't read {error.filename or path} ({error.strerror})") from error
    if memo is not None and memo.parent.is_dir() and _known != before:
        with contextlib.suppress(OSError):  # what can't be kept costs time alone
            atomic_write_json(memo, {name: [list(stamp), digest] for name, (stamp, digest) in _known.items()})
    return found


def names_content(key: str) -> bool:
    """Returns whether a dotted key may name a file or folder that decides a result."""
    return key.rpartition(".")[2] in PATHS and not key.startswith(NO_INPUTS)


def check_made(folder: Path, metrics: Mapping[str, Any], name: str) -> str:
    """Returns the digest of what a run made, as in its ``metrics.json``; PmgError if missing, damaged or another's."""
    recorded = (metrics.get("made") or {}).get(name)
    again = f"Run pmg-{metrics.get('command')} again in another run_dir"
    if (found := digest_path(folder / name)) is None:
        raise PmgError(f"{folder / name} is missing. {again}")
    if found != recorded:
        raise PmgError(f"{folder / name} is not what this run made: it is damaged, or another run's. {again}")
    return found


def refuse_changed(folder: Path | str, config: Mapping[str, Any], metrics: Mapping[str, Any], *groups: str) -> None:
    """Checks that the files that groups of a run's config name, e.g. ``data``, are still those that the run read.

    `config` has this machine's folders, `metrics` is from the run's ``metrics.json``. PmgError names the keys of files
    that have changed since, and their folders.
    """
    values, recorded = dict(leaves(config)), select_content(metrics["identity"], *groups)
    places = {key: str(values[key]) for key in values if f"{key}.{CONTENT}" in recorded}
    found = digest_content(places)
    if changed := [key for key in places if found.get(f"{key}.{CONTENT}") != recorded[f"{key}.{CONTENT}"]]:
        named = ", ".join(f"{key} ({display_path(places[key])})" for key in changed)
        again = f"run pmg-{metrics['command']} again in another run_dir"
        raise PmgError(f"{folder} was made from other files than are there now: {named}; {again}")


def select_content(values: Mapping[str, Any], *groups: str) -> dict[str, Any]:
    """Returns the digests among the values of an identity; those of some groups, e.g. ``data``, or all."""
    beginnings = tuple(f"{group}." for group in groups) or ("",)
    return {key: value for key, value in values.items() if key.endswith(f".{CONTENT}") and key.startswith(beginnings)}


def digest_path(path: Path) -> str | None:
    """Returns a sha256 of a file, or of the names and contents of a folder's files; None: there is none."""
    if path.is_file():
        return digest_file(path)
    whole = hashlib.sha256()
    files = sorted(Path(where, name) for where, _, names in os.walk(path, followlinks=True) for name in names)
    files = [file for file in files if file.suffix not in NO_CONTENT and file.is_file()]
    for file in files:
        name = file.relative_to(path)
        if not any(part.startswith(".") or part == "__pycache__" for part in name.parts):
            whole.update(f"{name.as_posix()} {digest_file(file)}\n".encode())
    return whole.hexdigest() if files else None


def digest_file(path: Path) -> str:
    """Returns the sha256 of a file, read again if its size, times or inode changed; OSError if it can't be read."""
    real = os.path.realpath(path)
    stat = os.stat(real)
    stamp = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    if (found := _known.get(real)) is not None and found[0] == stamp:
        return found[1]
    with open(real, "rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    _known[real] = (stamp, digest)
    return digest


def _read_memo(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    try:
        found = json.loads(path.read_text())
        return {str(name): (tuple(stamp), str(digest)) for name, (stamp, digest) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
