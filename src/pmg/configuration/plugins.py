"""Discovery of plug-ins: packages whose classes a config may build, their config folders, commands, components.

A package declares itself by an entry point of the group ``pmg.plugins``, see docs/extending.md. Optional further
groups: ``pmg.commands`` (the config's dataclass of a command, by its name without ``pmg-``), ``pmg.reports`` and
``pmg.components`` (what a pipeline folder may name, as ``PART.NAME``). pmg's own leaves declare themselves in the same
way; the core imports none of them.

A module that is not installed is named on the command line: ``plugins=[my_module]``. Nothing here imports a plug-in:
entry points are read from package metadata, folders from import specs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import lru_cache
from importlib import metadata
from importlib.metadata import EntryPoint
from pathlib import Path

from pmg.domain import PmgError

GROUP, COMPONENTS, COMMANDS, REPORTS = "pmg.plugins", "pmg.components", "pmg.commands", "pmg.reports"
OWN = "pmg"
_OVERRIDE = re.compile(r"\+{0,2}plugins=(.*)", re.DOTALL)
_searched: ContextVar[tuple[str, ...]] = ContextVar("searched", default=())


def installed_plugins() -> tuple[str, ...]:
    """Returns the names of the packages that declare an entry point of the group ``pmg.plugins``, sorted."""
    roots = {entry.module.partition(".")[0] for entry in _read_entry_points(GROUP, tuple(sys.path))}
    return tuple(sorted(roots - {OWN}))


def leaves() -> tuple[str, ...]:
    """Returns pmg's own packages that are registered as plug-ins, e.g. ``pmg.looks``, sorted."""
    return tuple(sorted(e.module for e in _read_entry_points(GROUP, tuple(sys.path)) if e.module.startswith("pmg.")))


def command_schemas() -> Mapping[str, EntryPoint]:
    """Returns the entry points of the commands that plug-ins bring, by name; each loads a dataclass.

    Those of a package that nothing has imported yet are left out: a command of pmg's runs no code of others.
    """
    found = _read_entry_points(COMMANDS, tuple(sys.path))
    return {entry.name: entry for entry in found if entry.module.partition(".")[0] in sys.modules}


def report_commands() -> Mapping[str, EntryPoint]:
    """Returns the entry points of ``pmg-report NAME``: each loads a function of the arguments behind the name."""
    return {entry.name: entry for entry in _read_entry_points(REPORTS, tuple(sys.path))}


def component_targets() -> Mapping[str, Mapping[str, str]]:
    """Returns the dotted names of pmg's own components that a pipeline folder may name, by part and short name."""
    targets: dict[str, dict[str, str]] = {}
    for entry in _read_entry_points(COMPONENTS, tuple(sys.path)):
        part, _, name = entry.name.partition(".")
        if entry.module.partition(".")[0] == OWN:
            targets.setdefault(part, {})[name] = entry.value.replace(":", ".")
    return targets


@lru_cache
def _read_entry_points(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Returns the entry points on an import path, but those of pmg's own modules that are gone; each is read once."""
    return tuple(entry for entry in metadata.entry_points(group=group) if _exists(entry.module))


def _exists(module: str) -> bool:
    """Returns whether a module of pmg's own has a file; others' are imported only when their names are used."""
    root, _, inner = module.partition(".")
    path = Path(__file__).parents[1].joinpath(*inner.split("."))
    return root != OWN or path.is_dir() or path.with_suffix(".py").is_file()


def find_module(name: str) -> Path:
    """Returns the folder of a top-level package or module, not imported; PmgError if it isn't on Python's path."""
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
    entries = [entry for entry in metadata.entry_points(group=GROUP) if entry.module.partition(".")[0] == name]
    return next((entry.dist.version for entry in entries if entry.dist), "not installed")


def find_config_folders() -> dict[str, Path]:
    """Returns the folder ``conf`` of each plug-in that has one, by name: of installed ones, and of `searched` ones."""
    folders = {}
    for name in dict.fromkeys((*installed_plugins(), *_searched.get())):
        with contextlib.suppress(PmgError):  # its metadata outlived it
            folders[name] = find_module(name) / "conf"
    return {name: folder for name, folder in folders.items() if folder.is_dir()}


@contextlib.contextmanager
def searched(names: Sequence[str]) -> Iterator[None]:
    """Adds the config folders of modules to Hydra's search path inside; PmgError if there is no such module."""
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
    """Returns the modules that the command line names, see `read_override`, or the one that TAB completes."""
    completed = os.environ.get("COMP_LINE")  # its last word may be incomplete
    return read_override(sys.argv[1:] if completed is None else [w for w in completed.split() if w.endswith("]")])


def read_override(arguments: Sequence[str]) -> list[str]:
    """Returns the modules that arguments name as ``plugins=[…]``; PmgError if the value is no list of names."""
    found = [match.group(1) for text in arguments if (match := _OVERRIDE.fullmatch(text))]
    value = found[-1].strip() if found else "[]"
    if value[:1] + value[-1:] != "[]":
        raise PmgError(f"plugins must be a list: '{value}'. Write plugins=[my_module].")
    return [name for part in value[1:-1].split(",") if (name := part.strip(" '\""))]
