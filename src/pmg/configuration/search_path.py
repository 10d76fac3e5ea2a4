"""What Hydra composes from beside ``pmg.conf``: the commands' schemas, and the config folders of plug-ins."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.plugins.search_path_plugin import SearchPathPlugin

from pmg.configuration.plugins import GROUP, find_config_folders
from pmg.configuration.schemas import PipelineConfig, find_schemas, is_pipeline

CONFIG_MODULE = "pmg.conf"


class PmgSearchPath(SearchPathPlugin):
    """Adds the config folders of plug-ins to the search path of pmg's commands.

    The folders come last: an option of pmg's own can't be replaced, only options be added.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Extends a search path that holds ``pmg.conf``; those of other Hydra applications stay as they are."""
        if not any(element.path == f"pkg://{CONFIG_MODULE}" for element in search_path.get_path()):
            return
        for name, folder in find_config_folders().items():
            search_path.append(f"{GROUP}: {name}", f"file://{folder}")


def register_schemas() -> None:
    """Stores the schema of each command where Hydra finds it, unless it is stored already."""
    store = ConfigStore.instance()
    for command, schema in find_schemas().items():
        if f"{command}_schema.yaml" not in store.repo:
            node = PipelineConfig if is_pipeline(command) else schema
            store.store(name=f"{command}_schema", node=node, provider="pmg")
