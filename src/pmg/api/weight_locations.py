"""Where an index may find weights: the pipeline's folder, the embedded models, the cache, a package or a hub id."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from pmg.domain import PmgError
from pmg.installation import PACKAGE_SCHEME
from pmg.models.loading.weight_sources import resolve_source

HERE, ASSETS, CACHE = "<here>", "<assets_dir>", "<cache_dir>"
# arguments of components that name files: weights anywhere, weights in a folder, or where unpacked files are written
LOCATIONS = {
    "source": "weights", "processors": "weights", "folder": "folder", "decoder_folder": "folder",
    "editor_folder": "folder", "cache_dir": "cache",
}  # fmt: skip
# a relative path, no part of which begins with a dot
INNER = re.compile(r"[\w@+=-][\w .@+=-]*(/[\w@+=-][\w .@+=-]*)*")
ADAPTER = "adapter_config.json"  # names other weights, which transformers would load too


@dataclass(frozen=True)
class Locations:
    """This machine's folders for the names in an index."""

    here: Path
    assets: Path
    cache: Path

    def resolve(self, kind: str, key: str, text: Any) -> str:
        """Returns what a constructor takes for a location in an index, of a kind of `LOCATIONS`.

        `text` is e.g. ``<here>/frozen/0-vae``, ``package:NAME/path`` or a hub id; messages name the argument `key`.
        PmgError if it leads elsewhere.
        """
        allowed = {"cache": (CACHE,), "folder": (HERE, ASSETS, CACHE), "weights": (HERE, ASSETS, CACHE)}[kind]
        text = str(text)
        name, _, inner = text.partition("/")
        if name in allowed and INNER.fullmatch(inner):
            return str({HERE: self.here, ASSETS: self.assets, CACHE: self.cache}[name] / inner)
        if kind == "weights" and _is_package(text):
            return resolve_source(text)
        if kind == "weights" and _is_hub_id(text):
            return text
        others = ", a package: or a hub id" if kind == "weights" else ""
        raise PmgError(f"{key} leads elsewhere: {text[:80]!r}. Paths begin with {' or '.join(allowed)}{others}.")


def check_folder(folder: Path) -> None:
    """Checks that the files of a pipeline's folder are its own, else raises PmgError.

    The hub's cache keeps the files of a snapshot as links to ``blobs`` beside it; no other link leads out.
    """
    home = folder.resolve()
    homes = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    for path in folder.rglob("*"):
        try:
            target = path.resolve()
        except (OSError, RuntimeError) as error:  # links in a circle
            raise PmgError(f"{path} can't be followed ({error}). Remove it.") from None
        if path.is_symlink() and not any(target.is_relative_to(allowed) for allowed in homes):
            raise PmgError(f"{path} is a link that leads out of the pipeline: {target}. Copy the file there.")
        if not (target.is_file() or target.is_dir()):
            raise PmgError(f"{path} is neither file nor folder: a pipeline holds nothing else. Remove it.")
        if path.name == ADAPTER:
            raise PmgError(f"{path} would load an adapter and its base from elsewhere: merge it into the weights")
        if path.suffix == ".json" and ".index." in path.name:  # of a variant: model.safetensors.index.fp16.json
            _check_shards(path)


def _check_shards(path: Path) -> None:
    """Checks that the files which a sharded checkpoint names are beside its index."""
    try:
        names = set(json.loads(path.read_text())["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise PmgError(f"{path} is damaged ({type(error).__name__}): {str(error)[:80]}") from None
    if foreign := [name for name in names if Path(str(name)).name != name]:
        raise PmgError(f"{path} names weights outside its folder: {str(foreign[0])[:80]}")


def _is_package(text: str) -> bool:
    if not text.startswith(PACKAGE_SCHEME):
        return False
    name, _, inner = text.removeprefix(PACKAGE_SCHEME).partition("/")
    return name.isidentifier() and INNER.fullmatch(inner) is not None


def _is_hub_id(text: str) -> bool:
    """Whether the hub takes it as an id, and no folder here has that name: libraries would read it instead."""
    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return not Path(text).exists()
