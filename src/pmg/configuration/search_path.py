"""What Hydra composes from beside ``pmg.conf``: the commands' schemas, and the config folders of plug-ins."""

from __future__ import annotations

from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.core_plugins.importlib_resources_config_source import ImportlibResourcesConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from pmg.configuration.plugins import GROUP, find_config_folders
from pmg.configuration.schemas import PipelineConfig, find_schemas, is_pipeline
from pmg.domain import PmgError

CONFIG_MODULE = "pmg.conf"
SHARED = "base"


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
            search_path.append(f"{GROUP}: {name}", f"{PluginSource.scheme()}://{folder}")


class OptionSource(ImportlibResourcesConfigSource):
    """A package of configs whose folder `SHARED` is listed nowhere: its files are for other configs to include."""

    @staticmethod
    def scheme() -> str:
        """Returns what paths to this source begin with."""
        return "options"

    def load_config(self, config_path: str) -> ConfigResult:
        """Returns a config; PmgError as `refuse_other_methods`."""
        return refuse_other_methods(config_path, super().load_config(config_path))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Returns the names of groups and options in a folder, without `SHARED`."""
        return [name for name in super().list(config_path, results_filter) if (config_path, name) != ("", SHARED)]


class PluginSource(FileConfigSource):
    """The config folder of a plug-in."""

    @staticmethod
    def scheme() -> str:
        """Returns what paths to this source begin with."""
        return "plugin"

    def load_config(self, config_path: str) -> ConfigResult:
        """Returns a config; PmgError as `refuse_other_methods`."""
        return refuse_other_methods(config_path, super().load_config(config_path))


def refuse_other_methods(config_path: str, loaded: ConfigResult) -> ConfigResult:
    """Returns a loaded config; PmgError if it is an option of ``method`` that defines one of another name.

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
    return loaded


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
        """Returns the schema of a command; all keys of all commands where the command is one of the pipeline."""
        command = _find_command(config_path)
        schema = PipelineConfig if is_pipeline(command) else find_schemas()[command]
        return ConfigResult(self.provider, f"{self.scheme()}://", OmegaConf.structured(schema), {"package": None})

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
