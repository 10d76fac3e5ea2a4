"""An exported pipeline in ``pmg-generate``: its parts as config groups, and its encoder as preference sources."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pmg.api.components import CLASS
from pmg.api.serialization import INDEX, PARTS, read_index
from pmg.api.weight_locations import ASSETS, CACHE, HERE
from pmg.cache import Cache
from pmg.configuration.plugins import component_targets
from pmg.configuration.targets import allowed_plugins
from pmg.domain import PmgError
from pmg.models.loading.weight_sources import load_frozen
from pmg.models.preference.token_encoder import TokenEncoder
from pmg.preferences.sources import Requirements, SourceContext
from pmg.runs.content import digest_path
from pmg.runs.run_folder import EXPORTED_ENCODER, WEIGHTS, replace_folders
from pmg.training.encoder_inputs import UserInputs
from pmg.training.token_sources import EncodedKeywords, EncodedSource, EncodedTokens

FOLDERS = {HERE: "${pipeline}", ASSETS: "${paths.assets_dir}", CACHE: "${paths.cache_dir}"}
"""The folders of an index as a config of ``pmg-generate`` names them."""


def read_parts(folder: str) -> dict[str, Any]:
    """Returns the parts of a pipeline as config nodes, by their names in the index; nothing is built.

    The folder may come from anybody: classes of plug-ins are refused unless they are allowed. PmgError if the
    folder holds no pipeline, or one that would build or read something foreign.
    """
    read_index(Path(folder), "cache", trust=allowed_plugins())
    index = json.loads(Path(folder, INDEX).read_text())
    return replace_folders({part: _to_config(part, index[part]) for part in PARTS}, FOLDERS)


def _to_config(part: str, node: Any) -> Any:
    if not isinstance(node, Mapping):
        return node
    inner = {key: _to_config(key, value) for key, value in node.items() if key != CLASS}
    if CLASS not in node:
        return inner
    return {"_target_": component_targets().get(part, {}).get(node[CLASS], node[CLASS]), **inner}


@dataclass(frozen=True)
class ExportedSource(EncodedSource):
    """Base of sources of the encoder of an exported pipeline, in a folder of ``pmg-export``."""

    pipeline: str

    @property
    def encoder_name(self) -> str:
        """The folder of the pipeline."""
        return self.pipeline

    @property
    def requires(self) -> Requirements:
        """The prefilled histories, where the encoder takes them."""
        return Requirements(contexts=getattr(self._parts()["inputs"].build, "needs_contexts", True))

    @property
    def identity(self) -> str:
        """Checksum of the encoder's weights, and of what prepares its inputs; PmgError if there are no weights."""
        path = Path(self.pipeline, EXPORTED_ENCODER)
        if not (path / WEIGHTS).is_file():
            raise PmgError(f"{path / WEIGHTS} is missing: export the pipeline again with pmg-export")
        index = json.loads(Path(self.pipeline, INDEX).read_text())
        return Cache.key(weights=digest_path(path), inputs=index["inputs"])

    def load(self, context: SourceContext) -> tuple[TokenEncoder, UserInputs]:
        """Returns the encoder and all users' inputs."""
        parts = self._parts()
        encoder = load_frozen(parts[EXPORTED_ENCODER], Path(self.pipeline, EXPORTED_ENCODER))
        return encoder, parts["inputs"].create()(context.extracted, context.examples, context.images)

    def _parts(self) -> dict[str, Any]:
        return read_index(Path(self.pipeline), "cache", trust=allowed_plugins())


class ExportedTokens(ExportedSource, EncodedTokens):
    """Soft tokens of an exported pipeline."""


@dataclass(frozen=True)
class ExportedKeywords(ExportedSource, EncodedKeywords):
    """Keywords that the encoder of an exported pipeline names."""
