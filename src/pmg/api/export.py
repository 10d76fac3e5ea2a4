"""Writes a trained pipeline as a folder, see `pmg.api.serialization`."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diffusers import ModelMixin

from pmg import __version__
from pmg.api.components import CLASS, ComponentReader
from pmg.api.serialization import INDEX, METHODS, PARTS, PIPELINE, PREFERENCE, SECTIONS, read_nodes
from pmg.api.weight_locations import CACHE, HERE, Locations
from pmg.cache import atomic_write_json
from pmg.configuration.identity import KINDS
from pmg.configuration.plugins import component_targets
from pmg.configuration.targets import allowed_plugins, is_reserved
from pmg.configuration.trees import replace_values, texts
from pmg.domain import PmgError
from pmg.installation import find_assets
from pmg.models.loading.weight_sources import download, load_frozen, resolve_source
from pmg.runs.run_folder import EXPORTED_ENCODER, replace_folders
from pmg.training.token_sources import LoadedKeywords, LoadedTokens, TrainedKeywords, TrainedTokens

FROZEN, CARD = "frozen", "README.md"
SOURCES = ("source", "processors", "folder", "decoder_folder", "editor_folder")  # arguments that name weights


def to_index(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config's `PARTS` and `SECTIONS` as nodes of an index; PmgError for classes that it can't name."""
    return {name: _to_node(name, config[name]) for name in (*PARTS, *SECTIONS)}


def name_methods(
    methods: Mapping[str, Mapping[str, Any]], sources: Mapping[str, Mapping[str, Any]], run: str, reads: bool
) -> dict[str, Any]:  # fmt: skip
    """Returns the nodes of an index for methods and the preference sources that they use, of config nodes by name.

    Sources of the encoder of `run`, which is exported, become the pipeline's own. Unless it `reads`, that is scores
    options, methods whose keywords it names are left out. PmgError if a source is of another training, or of a class
    that pipelines can't name.
    """
    nodes = {name: _of_pipeline(name, node, run) for name, node in sources.items()}
    unread = {name for name, node in nodes.items() if node["_target_"] == _dotted(LoadedKeywords) and not reads}
    chosen = {
        name: {
            key: value
            for key, value in node.items()
            if key not in ("_target_", "mismatch") and value not in ("", None)
        }
        for name, node in methods.items()
        if not unread & {node.get(argument) for argument in KINDS}
    }
    used = {node[argument] for node in chosen.values() for argument in KINDS if argument in node}
    return {
        METHODS: chosen,
        PREFERENCE: {name: _to_node("preference_source", nodes[name]) for name in nodes if name in used},
    }


def _of_pipeline(name: str, node: Mapping[str, Any], run: str) -> dict[str, Any]:
    """Returns a source's node, of the pipeline's encoder in place of a run's; PmgError if it is another run's."""
    own = {_dotted(TrainedTokens): LoadedTokens, _dotted(TrainedKeywords): LoadedKeywords}
    if (loaded := own.get(node["_target_"])) is None:
        return dict(node)
    if node["run"] != run:
        raise PmgError(f"preference.{name} is of another training: {node['run']}. Leave out the methods that use it")
    return {"_target_": _dotted(loaded)} | {key: node[key] for key in ("least",) if key in node}


def _dotted(kind: type[Any]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _to_node(part: str, node: Any) -> Any:
    if not isinstance(node, Mapping):
        return node
    inner = {key: _to_node(key, value) for key, value in node.items() if key != "_target_"}
    if "_target_" not in node:
        return inner
    cache = {"cache_dir": f"{CACHE}/models"} if "cache_dir" in inner else {}
    return {CLASS: _class_of(part, node["_target_"]), **inner, **cache}


def _class_of(part: str, target: str) -> str:
    """Returns the name in an index of what a config's ``_target_`` builds: for a plug-in's its dotted name."""
    registered = component_targets().get(part, {})
    if name := next((name for name, each in registered.items() if each == target), None):
        return name
    package = target.partition(".")[0]
    if package in allowed_plugins():
        return target
    if not is_reserved(package):
        raise PmgError(f"{part} is of a plug-in: {target}. If its code may run, add plugins=[{package}].")
    raise PmgError(
        f"{part} can't be exported: {target}. A pipeline folder holds {', '.join(registered) or 'no such part'}."
    )


def name_weights(
    nodes: Mapping[str, Any], places: Mapping[str, str], copy_all: bool
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Names weights so that any machine finds them, and finds the others, which are to be copied; writes nothing.

    Returns the nodes with the new names, and weights by their name in the folder `FROZEN` of the pipeline, each once.
    `nodes` are those of `to_index`, `places` folders by their names, e.g. ``{"<assets_dir>": "/somewhere/assets"}``.
    `copy_all`: to copy those, too, that any machine finds: the embedded ones, a package's, the hub's. PmgError if
    weights to be copied are missing.
    """
    names: dict[str, str] = {}
    of_place = {place: name for name, place in places.items() if place}
    copies: dict[str, Path] = {}
    for source in dict.fromkeys(weight_sources(nodes)):
        if not copy_all and (named := replace_folders(source, of_place)) != source:
            names[source] = named
        elif copy_all or Path(source).exists():  # else a package, or an id of the hub
            plain = re.sub(r"[^\w.+=-]", "_", Path(source).name)
            inner = f"{len(copies)}-{plain}"
            path = Path(resolve_source(source))
            missing = f"can't copy '{source}': no such file or folder here"
            copies[inner] = path if path.exists() else download(source, missing)
            names[source] = f"{HERE}/{FROZEN}/{inner}"
    return replace_values(nodes, lambda name, value: names.get(value, value) if name in SOURCES else value), copies


def begin_folder(folder: Path) -> None:
    """Creates a pipeline's folder, or removes its index, which is written last: an incomplete one can't be loaded."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX).unlink(missing_ok=True)


def copy_weights(folder: Path, copies: Mapping[str, Path]) -> None:
    """Copies weights into a pipeline's folder."""
    for name, path in copies.items():
        _copy(path, folder / FROZEN / name)


def copy_pipeline(source: Path, folder: Path, encoder: ModelMixin) -> None:
    """Writes a copy of a pipeline's folder with another encoder of its class; PmgError if both folders are one."""
    if source.resolve() == folder.resolve():
        raise PmgError(f"save_directory is the folder that the pipeline was loaded from: {folder}. Name another one.")
    nodes = json.loads((source / INDEX).read_text())
    begin_folder(folder)
    inner = {text.removeprefix(f"{HERE}/") for text in weight_sources(nodes) if text.startswith(f"{HERE}/")}
    for name in sorted({*inner, CARD}):
        _copy(source / name, folder / name)
    encoder.register_to_config(_name_or_path="")  # the folder that it came from is this machine's
    encoder.save_pretrained(folder / EXPORTED_ENCODER)
    atomic_write_json(folder / INDEX, nodes)


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, target, dirs_exist_ok=True)
    elif path.is_file():
        shutil.copy2(path, target)


def weight_sources(nodes: Any) -> Iterator[str]:
    """Returns the weights that the components of an index name; one that several name, several times."""
    return (text for key, text in texts(nodes) if key.rpartition(".")[2] in SOURCES)


def check_index(folder: Path, nodes: Mapping[str, Any]) -> None:
    """Checks that a pipeline of these nodes can be loaded, else raises PmgError; writes nothing."""
    read_nodes(nodes, ComponentReader(Locations(folder, Path(find_assets()), Path("cache")), allowed_plugins()))


def write_index(folder: Path, nodes: Mapping[str, Any]) -> None:
    """Writes ``model_index.json``, see `check_index`."""
    check_index(folder, nodes)
    atomic_write_json(folder / INDEX, {CLASS: PIPELINE, "_pmg_version": __version__, **nodes})


def load_encoder(trained: Path, kind: type[ModelMixin], half: bool) -> ModelMixin:
    """Loads the trained weights, as they are or in float16."""
    encoder = load_frozen(kind, trained)
    encoder.register_to_config(_name_or_path="")  # the folder that it came from is this machine's
    return encoder.half() if half else encoder


def name_encoder(kind: type[ModelMixin]) -> dict[str, Any]:
    """Returns the node of an index that names the trained encoder's class; PmgError if pipelines can't name it."""
    return {EXPORTED_ENCODER: {CLASS: _class_of(EXPORTED_ENCODER, f"{kind.__module__}.{kind.__qualname__}")}}
