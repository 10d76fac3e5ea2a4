"""What Hydra composes for a command: its schema, config folders of plug-ins, and of each file the keys that it reads.

Experiments and options are written for several commands: an experiment says how to train *and* how to evaluate, and
``generator=flux1`` brings settings of the sampling. A command composes its own keys alone, so the sources here leave
out the rest of each file when it is read: nothing has to be removed from a composed config.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextvars import ContextVar
from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.core_plugins.importlib_resources_config_source import ImportlibResourcesConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from pmg.configuration.plugins import GROUP, find_config_folders
from pmg.configuration.schemas import SECTIONS, all_keys, find_schemas, read_keys, read_sections
from pmg.domain import PmgError

CONFIG_MODULE = "pmg.conf"
SHARED = "base"
_OVERRIDDEN = re.compile(r"override /([^/@]+)")  # the group of an entry in a defaults list
_command: ContextVar[str | None] = ContextVar("command", default=None)  # whose config is being composed


def register_sources() -> None:
    """Makes Hydra read pmg's configs by the sources of this module; safe to call again."""
    for plugin in (PmgSearchPath, SchemaSource, OptionSource):
        Plugins.instance().register(plugin)
    SourcesRegistry.instance().types["file"] = FolderSource  # its `register` keeps the one that a scheme has


class PmgSearchPath(SearchPathPlugin):
    """Adds the commands' schemas and the config folders of plug-ins to the search path of pmg's commands.

    The folders come last: an option of pmg's own can't be replaced, only options be added.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Extends a search path that holds ``pmg.conf``; those of other Hydra applications stay as they are."""
        own = [element for element in search_path.get_path() if element.path == f"pkg://{CONFIG_MODULE}"]
        if not own:
            return
        for element in own:
            element.path = f"{OptionSource.scheme()}://{CONFIG_MODULE}"
        search_path.append("pmg", f"{SchemaSource.scheme()}://")
        for name, folder in find_config_folders().items():
            search_path.append(f"{GROUP}: {name}", f"{FolderSource.scheme()}://{folder}")


class OptionSource(ImportlibResourcesConfigSource):
    """The package of pmg's configs: of each what the composed command reads.

    Its folder `SHARED` is listed nowhere: its files are for other configs to include.
    """

    @staticmethod
    def scheme() -> str:
        """Returns what paths to this source begin with."""
        return "options"

    def load_config(self, config_path: str) -> ConfigResult:
        """Returns a config; one at the root decides whose keys those after it have."""
        name = config_path.removesuffix(".yaml")
        if "/" not in name:
            _command.set(name if name in find_schemas() else None)
        return _select(config_path, super().load_config(config_path))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Returns the names of groups and options in a folder, without `SHARED`."""
        return [name for name in super().list(config_path, results_filter) if (config_path, name) != ("", SHARED)]


class FolderSource(FileConfigSource):
    """A folder of configs, of a plug-in or ``--config-dir``: of each what the composed command reads."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Returns a config; one at the root is of another Hydra application."""
        if "/" not in config_path:
            _command.set(None)
        return _select(config_path, super().load_config(config_path))


def refuse_other_methods(config_path: str, loaded: ConfigResult) -> None:
    """Refuses an option of ``method`` that defines one of another name, by PmgError.

    Else two options could define the same method, and the later one would change the earlier one.
    """
    group, _, option = config_path.removesuffix(".yaml").rpartition("/")
    if group == "method":
        config: Any = loaded.config
        methods = config.get("method") if (loaded.header or {}).get("package") == "_global_" else config
        if others := sorted(set(methods or {}) - {option, "defaults"}):
            raise PmgError(
                f"method={option} defines another method: {', '.join(others)}. Name the file as the method, "
                "and write one file for each method"
            )


def _select(config_path: str, result: ConfigResult) -> ConfigResult:
    """Returns what a file has for the composed command, see `select_keys`; all of it for programs of others.

    PmgError as `refuse_other_methods`.
    """
    refuse_other_methods(config_path, result)
    overlay = result.header.get("package") == "_global_"
    command, config = _command.get(), result.config
    if command is not None and isinstance(config, DictConfig) and (overlay or "defaults" in config):
        plain: Any = OmegaConf.to_container(config, resolve=False)
        result.config = OmegaConf.create(select_keys(plain, command, overlay))
    return result


def select_keys(config: Mapping[str, Any], command: str, overlay: bool) -> dict[str, Any]:
    """Returns what a command reads of a config file.

    Of an `overlay`, whose keys are those of the root, such as an experiment: the keys and sections (``train: {…}``)
    of this command. Of every file: its defaults list without the options of groups that the command doesn't have. Keys
    of no command remain, so that they are refused.
    """
    known = read_keys(command)
    kept = dict(config)
    if overlay:
        kept = {key: value for key, value in config.items() if key in known or key not in all_keys() | SECTIONS}
        for section in read_sections(command):
            if section not in known:
                kept = _merge(kept, config.get(section) or {})
    if "defaults" in kept:
        kept["defaults"] = [entry for entry in kept["defaults"] if not _is_foreign(entry, known)]
    return kept


def _merge(config: Mapping[str, Any], section: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config with the values of a section, and the entries of its defaults list before ``_self_``."""
    merged: Any = OmegaConf.to_container(OmegaConf.merge(config, section), resolve=False)
    if "defaults" in config and "defaults" in section:
        first = [entry for entry in config["defaults"] if entry != "_self_"]
        merged["defaults"] = [*first, *(entry for entry in section["defaults"] if entry != "_self_"), "_self_"]
    return dict(merged)


def _is_foreign(entry: Any, known: Collection[str]) -> bool:
    """Returns whether an entry of a defaults list chooses an option of a group that only other commands have."""
    found = _OVERRIDDEN.match(next(iter(entry), "")) if isinstance(entry, Mapping) else None
    return bool(found and found[1] not in known and found[1] in all_keys())


class SchemaSource(ConfigSource):
    """The schema of each command as ``COMMAND_schema``, made when it is read.

    Hydra copies its ConfigStore with all that is stored for each list of options that it reads: 200 times for one
    ``--help``, which took four seconds with the schemas in it.
    """

    @staticmethod
    def scheme() -> str:
        """Returns what paths to this source begin with."""
        return "schemas"

    def load_config(self, config_path: str) -> ConfigResult:
        """Returns the schema of a command."""
        schema = OmegaConf.structured(find_schemas()[_find_command(config_path)])
        return ConfigResult(self.provider, f"{self.scheme()}://", schema, {"package": None})

    def available(self) -> bool:
        """Returns whether there is something to read."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Returns whether this is a folder: none but the root is."""
        return config_path == ""

    def is_config(self, config_path: str) -> bool:
        """Returns whether this is the name of a command's schema."""
        return _find_command(config_path) in find_schemas()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Returns nothing: schemas are no options to choose from."""
        return []


def _find_command(config_path: str) -> str:
    name = config_path.removesuffix(".yaml")
    return name.removesuffix("_schema") if name.endswith("_schema") else ""
