"""Atomic files, and a content-addressed store for what frozen models compute."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pmg.domain import PmgError

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

TensorLoader = Callable[[Iterable[str]], "Mapping[str, Tensor]"]
"""Gives the tensors of these names, and perhaps others."""


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Writes a file so that readers, and a crash, see the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a write that fails names no file
        raise
    finally:
        temporary.unlink(missing_ok=True)


def replace_folder(source: Path, target: Path) -> None:
    """Copies a folder over another: readers find the old files together or the new ones together.

    The copy is made beside `target` and takes its place when it is complete. A process that is killed between the
    two renames leaves no `target` and the old files in ``.NAME.replaced-*/old`` beside it, see `find_replaced`; the
    next replacement removes what was left. One process at a time may replace a folder.
    """
    # os.replace takes no folder with content as its target, and Python has no function for Linux's exchange of two
    # names (renameat2), which some file systems lack: hence two renames
    target.parent.mkdir(parents=True, exist_ok=True)
    abandoned = list(target.parent.glob(f".{target.name}.replaced-*"))
    beside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.replaced-"))
    new, old = beside / "new", beside / "old"
    try:
        shutil.copytree(source, new)
        if target.exists():
            os.rename(target, old)
        try:
            os.rename(new, target)
        except BaseException:
            if old.exists():
                os.rename(old, target)
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    for folder in abandoned:
        shutil.rmtree(folder, ignore_errors=True)


def find_replaced(target: Path) -> Path | None:
    """Returns the old files of a missing folder whose replacement was killed between its two renames, or None."""
    return None if target.exists() else next(target.parent.glob(f".{target.name}.replaced-*/old"), None)


def atomic_write_text(path: Path, content: str) -> None:
    """Writes text as `atomic_write_bytes` does, in UTF-8."""
    atomic_write_bytes(path, content.encode())


def atomic_write_json(path: Path, content: Any) -> None:
    """Writes indented JSON as `atomic_write_bytes` does; refuses NaN, which JSON can't hold."""
    atomic_write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def pack(tensors: Mapping[str, Tensor], key: str) -> bytes:
    """Returns named tensors as a safetensors file with a checksum of it and of its cache key in the metadata."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    content = save(plain, {_SEAL: _OPEN})  # the checksum takes the placeholder's place
    return content.replace(_field(_OPEN), _field(f"{zlib.crc32(content, zlib.crc32(key.encode())):08x}"), 1)


def hash_tensor(tensor: Tensor) -> str:
    """Returns a sha256 of a tensor's shape and bytes, the same on every device."""
    import torch

    digest = hashlib.sha256(",".join(map(str, tensor.shape)).encode())
    digest.update(tensor.cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def unpack(content: bytes, key: str) -> dict[str, Tensor] | None:
    """Returns the tensors of `pack`, or None if the content doesn't match its checksum, or is of another key."""
    from safetensors.torch import load

    return load(content) if _has_checksum(BytesIO(content), key) else None


class Cache:
    """Content-addressed store: the key is a hash of everything that the value depends on.

    Several processes may write at once: entries are written atomically, and writers of one key write equal content.
    Every entry has a checksum of its key and content; a damaged or exchanged one is removed with a warning and
    recomputed. Temporary files of killed writers are removed after an hour. `folder` has one safetensors file an
    entry; it is made at the first write.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    @staticmethod
    def key(**parts: Any) -> str:
        """Returns the sha256 of the canonical JSON of `parts` (which must be JSON-able)."""
        canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def load(self, key: str) -> dict[str, Tensor] | None:
        """Returns the tensors stored under `key`, or None if they are missing or damaged."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                if _has_checksum(file, key):
                    return self._view(key)
        except FileNotFoundError:
            return None
        log.warning("cache entry %s is damaged: removed, to be computed again", path)
        path.unlink(missing_ok=True)
        return None

    def _view(self, key: str, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        from safetensors import safe_open

        try:
            with safe_open(self._path(key), "pt") as file:
                return {name: file.get_tensor(name) for name in (file.keys() if names is None else names)}
        except FileNotFoundError:
            raise PmgError(f"cache entry {self._path(key)} is gone; run the same command again to make it") from None

    def lazy(self, key: str, tensors: Mapping[str, Tensor]) -> TensorLoader:
        """Returns a function that loads the tensors under `key` again, so that many entries need not be in memory.

        A folder's entries are memory-mapped: pages are read when a tensor is accessed.
        """
        return partial(self._view, key)

    def save(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Stores named tensors under `key`; views and shared storage are copied, devices forgotten."""
        path = self._path(key)
        atomic_write_bytes(path, pack(tensors, key))
        for abandoned in path.parent.glob(".*"):  # temporary files of killed writers
            with contextlib.suppress(OSError):  # another process removed it, or it is none of ours
                if time.time() - abandoned.stat().st_mtime > 3600:
                    abandoned.unlink()

    def fetch(self, key: str, compute: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Returns the tensors under `key`, computed and stored first where they are absent."""
        if (found := self.load(key)) is None:
            found = dict(compute())
            self.save(key, found)
        return found

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"


class ObjectCache(Cache):
    """`Cache` on an object store with an fsspec implementation, such as ``s3://bucket/contexts`` (package s3fs).

    Object stores write an object atomically.
    """

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        super().__init__("")
        self.store, self.root = url_to_fs(url)

    def load(self, key: str) -> dict[str, Tensor] | None:
        """Returns the tensors stored under `key`, or None if they are missing or damaged."""
        try:
            found = unpack(self.store.cat_file(self._name(key)), key)
        except FileNotFoundError:
            return None
        if found is None:
            log.warning("cache entry %s is damaged: to be computed again", self._name(key))
        return found

    def save(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Stores named tensors under `key`."""
        self.store.pipe_file(self._name(key), pack(tensors, key))

    def lazy(self, key: str, tensors: Mapping[str, Tensor]) -> TensorLoader:
        """Returns a function that returns `tensors`, without another download."""
        return lambda names: tensors

    def _name(self, key: str) -> str:
        return f"{self.root}/{key[:2]}/{key}.safetensors"


def open_cache(place: str) -> Cache:
    """Returns the cache in a folder, or at a URL; PmgError if fsspec's package for the URL is not installed."""
    if "://" not in place:
        return Cache(place)
    try:
        return ObjectCache(place)
    except (ImportError, ValueError) as error:
        raise PmgError(f"paths.contexts_dir={place}: {' '.join(str(error).split())}") from error


class NoCache(Cache):
    """Stores nothing."""

    def __init__(self) -> None:
        super().__init__("")

    def load(self, key: str) -> None:
        """Returns None."""

    def save(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Does nothing."""

    def lazy(self, key: str, tensors: Mapping[str, Tensor]) -> TensorLoader:
        """Returns a function that returns `tensors`."""
        return lambda names: tensors


_BLOCK = 2**20
_SEAL, _OPEN = "crc32", "--------"  # safetensors has no checksum of its own


def _has_checksum(file: BinaryIO, key: str) -> bool:
    """Returns whether the content is that of the key, and matches its checksum."""
    head = file.read(_BLOCK)  # contains the header, and the checksum in it
    before, name, rest = head.partition(_field("")[:-1])
    found = zlib.crc32(before + name + _OPEN.encode() + rest[len(_OPEN) :], zlib.crc32(key.encode()))
    while block := file.read(_BLOCK):
        found = zlib.crc32(block, found)
    return bool(name) and rest[: len(_OPEN)] == f"{found:08x}".encode()


def _field(value: str) -> bytes:
    return f'"{_SEAL}":"{value}"'.encode()
