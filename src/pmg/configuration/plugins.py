"""Discovery of plug-ins: packages outside of pmg whose classes a config may build, and their config folders.

A package declares itself by an entry point::

    [project.entry-points."pmg.plugins"]
    my_package = "my_package"

A module that is not installed is named on the command line: ``plugins=[my_module]``. Nothing here imports a plug-in:
entry points are read from package metadata, folders from import specs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from pmg.domain import PmgError

GROUP = "pmg.plugins"
_OVERRIDE = re.compile(r"\+{0,2}plugins=(.*)", re.DOTALL)
_searched: ContextVar[tuple[str, ...]] = ContextVar("searched", default=())


def installed_plugins() -> tuple[str, ...]:
    """Returns the names of the packages that declare an entry point of the group ``pmg.plugins``, sorted."""
    return _read_entry_points(tuple(sys.path))


@lru_cache
def _read_entry_points(path: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the packages that metadata on an import path names; each path is read once a process."""
    return tuple(sorted({entry.module.partition(".")[0] for entry in metadata.entry_points(group=GROUP)}))


def find_module(name: str) -> Path:
    """Returns the folder of a top-level package, or of a module's file, without importing it.

    Args:
        name: of the package or module, which Python's path holds.

    Raises:
        PmgError: there is no such module.
    """
    if not name.isidentifier() or name.startswith("_"):
        raise PmgError(f"plugins: not the name of a module: '{name}'. Name a top-level module: plugins=[my_module].")
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module without a spec, such as __main__
        spec = None
    if spec is None:
        raise PmgError(f"plugins: no such module: '{name}'. Install it, or run in the folder that holds it.")
    packages = list(spec.submodule_search_locations or [])
    return Path(packages[0]) if packages else Path(spec.origin or "").parent


def add_current_folder() -> None:
    """Adds the current folder to the end of Python's path, which console scripts leave it out of."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def plugin_version(name: str) -> str:
    """Returns the version of a plug-in's distribution; ``"not installed"`` for a module on Python's path."""
    entries = metadata.entry_points(group=GROUP)
    found = [entry.dist.version for entry in entries if entry.dist and entry.module.partition(".")[0] == name]
    return found[0] if found else "not installed"


def find_config_folders() -> dict[str, Path]:
    """Returns the folder ``conf`` of each plug-in that has one, by name: of installed ones, and of `searched` ones."""
    folders = {}
    for name in dict.fromkeys((*installed_plugins(), *_searched.get())):
        with contextlib.suppress(PmgError):  # its metadata outlived it
            folders[name] = find_module(name) / "conf"
    return {name: folder for name, folder in folders.items() if folder.is_dir()}


@contextlib.contextmanager
def searched(names: Sequence[str]) -> Iterator[None]:
    """Adds the config folders of modules to Hydra's search path for what is composed inside.

    Raises:
        PmgError: there is no such module.
    """
    if names:
        add_current_folder()
    for name in names:
        find_module(name)
    token = _searched.set(tuple(names))
    try:
        yield
    finally:
        _searched.reset(token)


def read_command_line() -> list[str]:
    """Returns the modules that the command line names, or the one that TAB completes.

    Raises:
        PmgError: see `read_override`.
    """
    completed = os.environ.get("COMP_LINE")  # its last word may be incomplete
    return read_override(sys.argv[1:] if completed is None else [w for w in completed.split() if w.endswith("]")])


def read_override(arguments: Sequence[str]) -> list[str]:
    """Returns the modules that command-line arguments name as ``plugins=[…]``.

    Raises:
        PmgError: the value is no list of names.
    """
    found = [match.group(1) for text in arguments if (match := _OVERRIDE.fullmatch(text))]
    if not found:
        return []
    value = found[-1].strip()
    names = [name.strip(" '\"") for name in value[1:-1].split(",")] if value[:1] + value[-1:] == "[]" else None
    if names is None:
        raise PmgError(f"plugins must be a list: '{value}'. Write plugins=[my_module].")
    return [name for name in names if name]
