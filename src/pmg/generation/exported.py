"""A trained pipeline as a folder: what was trained, and where the frozen rest comes from.

``model_index.json`` holds the config of every part. Folders that differ between machines stand as ``<here>`` (the
pipeline's own), ``<assets_dir>`` (the embedded models) and ``<cache_dir>``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pmg import __version__
from pmg.cache import atomic_write_json
from pmg.config import find_assets
from pmg.domain import PmgError
from pmg.models.preference_encoder import PreferenceEncoder
from pmg.models.sources import load_frozen, resolve_source

INDEX = "model_index.json"
ENCODER = "preference_encoder"
FROZEN = "frozen"
HERE, ASSETS, CACHE = "<here>", "<assets_dir>", "<cache_dir>"
CLASS = "PersonalizedPipeline"
TRUSTED = "pmg."  # a shared folder may build nothing else
SOURCES = ("source", "folder")  # keys whose values name weights


def write_index(folder: Path, parts: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    """Writes the parts' config, with names for this machine's folders.

    Args:
        folder: of the pipeline.
        parts: config of each part, in built-in types.
        places: folders by their names, e.g. ``{"<assets_dir>": "/somewhere/assets"}``.

    Returns:
        The parts as they were written.
    """
    named = {name: _map_texts(part, lambda text: _name(text, places)) for name, part in parts.items()}
    atomic_write_json(folder / INDEX, {"_class_name": CLASS, "_pmg_version": __version__, **named})
    return named


def save_encoder(trained: Path, folder: Path, half: bool) -> None:
    """Writes the trained weights again, bit by bit or in float16."""
    encoder = load_frozen(PreferenceEncoder, trained)
    encoder.register_to_config(_name_or_path="")  # the folder that it came from is this machine's
    (encoder.half() if half else encoder).save_pretrained(folder)


def read_index(folder: Path, cache_dir: str) -> dict[str, Any]:
    """Reads the parts' config back, for this machine's folders.

    Raises:
        PmgError: the folder holds no such pipeline, or its config would build something foreign.
    """
    path = folder / INDEX
    try:
        index = json.loads(path.read_text())
    except FileNotFoundError:
        raise PmgError(f"{folder} holds no pipeline (no {INDEX}); write one: pmg-export train_run=RUN") from None
    except ValueError as error:
        raise PmgError(f"{path} is damaged ({error})") from None
    if index.get("_class_name") != CLASS:
        raise PmgError(f"{path} describes a {index.get('_class_name')}, no {CLASS}")
    foreign = [target for target in _targets(index) if not str(target).startswith(TRUSTED)]
    if foreign:
        raise PmgError(f"{path} would build '{foreign[0]}'; a shared pipeline may build parts of pmg alone")
    places = {HERE: str(folder), ASSETS: find_assets(), CACHE: cache_dir}
    parts = {name: part for name, part in index.items() if not name.startswith("_")}
    return {name: _map_texts(part, lambda text: _unname(text, places)) for name, part in parts.items()}


def in_float32(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The parts' config without bfloat16, for a processor that only emulates it."""
    language_model, sampling = parts["language_model"], parts["sampling"]
    held = {"dtype": "float32"} if language_model.get("dtype") == "bfloat16" else {}
    return {**parts, "language_model": {**language_model, **held}, "sampling": {**sampling, "bfloat16": False}}


def copy_frozen(folder: Path, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Copies the weights that parts name into the pipeline's folder; each different source once.

    Returns:
        The parts, naming the copies.

    Raises:
        PmgError: a source is missing.
    """
    copied: dict[str, str] = {}

    def change(node: Any) -> Any:
        if isinstance(node, list):
            return [change(value) for value in node]
        if not isinstance(node, Mapping):
            return node
        held = {key: node[key] for key in SOURCES if "_target_" in node and isinstance(node.get(key), str)}
        for source in held.values():
            if source not in copied:
                copied[source] = _copy(source, folder / FROZEN / f"{len(copied)}-{Path(source).name}")
        return {key: copied[held[key]] if key in held else change(value) for key, value in node.items()}

    return {name: change(part) for name, part in parts.items()}


def _copy(source: str, target: Path) -> str:
    path = Path(resolve_source(source))
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        shutil.copy2(path, target)
    elif path.is_dir():
        shutil.copytree(path, target, dirs_exist_ok=True)
    else:
        _download(source, target)
    return f"{HERE}/{FROZEN}/{target.name}"


def _download(source: str, target: Path) -> None:
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(source, local_dir=target)
    except Exception as error:  # the hub raises whatever it likes
        reason = " ".join(str(error).split())[:160]
        raise PmgError(f"can't copy '{source}': no such file or folder here, and the hub says: {reason}") from error


def _name(text: str, places: Mapping[str, str]) -> str:
    for name, place in places.items():
        if text == place or text.startswith(f"{place}/"):
            return name + text.removeprefix(place)
    return text


def _unname(text: str, places: Mapping[str, str]) -> str:
    for name, place in places.items():
        if text.startswith(name):
            return place + text.removeprefix(name)
    return text


def _map_texts(node: Any, change: Callable[[str], str]) -> Any:
    if isinstance(node, Mapping):
        return {key: _map_texts(value, change) for key, value in node.items()}
    if isinstance(node, list):
        return [_map_texts(value, change) for value in node]
    return change(node) if isinstance(node, str) else node


def _targets(node: Any) -> Iterator[Any]:
    values = node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()
    if isinstance(node, Mapping) and "_target_" in node:
        yield node["_target_"]
    for value in values:
        yield from _targets(value)
