"""A run's folder: what the run in it was made with, and its record in ``metrics.json``."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pmg.cache import atomic_write_json, atomic_write_text
from pmg.configuration.identity import RUNS, find_differences, select_result, tell_differences
from pmg.configuration.instantiate import leaves, portable
from pmg.configuration.precision import ANY_DTYPE, settle_dtype
from pmg.domain import PmgError
from pmg.runs.provenance import git_state, hardware, versions

CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.json"
SIGNATURE = "encoder/models.json"  # of a trained encoder, in the folder of its run
WEIGHTS = "diffusion_pytorch_model.safetensors"
OWN = "<run_dir>"  # stands for the run's own folder in `portable`
OUTPUTS = {"evaluate": "results_dir", "keywords": "results_dir", "export": "folder", "prepare": "source.folder"}
# work that a run which isn't complete goes on from
BEGUN = ("checkpoints/last.ckpt", "records.jsonl", "shards/*/records.jsonl")


def identify(cfg: DictConfig, command: str) -> dict[str, Any]:
    """The values that decide a run's result, by dotted key; those of the runs that it takes up by ``KEY.`` before.

    Args:
        cfg: the whole config of `command`.
        command: the verb.
    """
    values = select_result(command, dict(leaves(portable(cfg, ANY_DTYPE))))
    values.pop("dtype", None)  # the folder keeps to one, whichever processor goes on, see `settle`
    for key in RUNS:
        folder = values.pop(key, None)
        if folder and not str(folder).startswith(OWN):
            values |= {f"{key}.{name}": value for name, value in _identity_in(Path(cfg[key])).items()}
    return values


def _identity_in(folder: Path) -> dict[str, Any]:
    """What the run in `folder` was made with, and the checksum of the weights that it trained."""
    try:
        known = dict(json.loads((folder / METRICS_FILE).read_text())["identity"])
    except (OSError, ValueError, KeyError, TypeError):
        return {"folder": str(folder)}  # which the command refuses
    try:
        return {**known, "weights": json.loads((folder / SIGNATURE).read_text())[WEIGHTS]}
    except (OSError, ValueError, KeyError):
        return known


def settle(cfg: DictConfig) -> str | None:
    """Sets the config's floating point type where it is ``auto``: that of the folder's run, or this processor's.

    Returns:
        The type, or None for a command without one.

    Raises:
        PmgError: there is no such type.
    """
    if "dtype" not in cfg:
        return None
    if cfg.dtype not in ("auto", "bfloat16", "float32"):
        raise PmgError(f"dtype: no type '{cfg.dtype}'. Use auto, bfloat16 or float32")
    cfg.dtype = settle_dtype(_held_dtype(Path(cfg.run_dir)) if cfg.dtype == "auto" else cfg.dtype)
    return cfg.dtype


def _held_dtype(folder: Path) -> str | None:
    try:
        return json.loads((folder / METRICS_FILE).read_text()).get("dtype")
    except (OSError, ValueError, AttributeError):
        return None


def written_folders(cfg: DictConfig, command: str) -> list[Path]:
    """The folders that a run writes: its own, and that of results which other commands read.

    A shard of an evaluation leaves the results to the command that merges.
    """
    found = [cfg.run_dir]
    if (key := OUTPUTS.get(command)) and OmegaConf.select(cfg, "shard.index") is None:
        found.append(OmegaConf.select(cfg, key))
    return [Path(folder) for folder in dict.fromkeys(found) if folder]


def read_run(folder: Path | str, command: str) -> tuple[DictConfig, dict[str, Any]]:
    """Returns the resolved config and the ``metrics.json`` of an earlier run.

    Raises:
        PmgError: `folder` is no run folder, is damaged, or belongs to another command.
    """
    folder = Path(folder)
    try:
        metrics = json.loads((folder / METRICS_FILE).read_text())
        config = OmegaConf.load(folder / CONFIG_FILE)
    except FileNotFoundError as error:
        raise PmgError(f"{folder} is not a run folder (no {Path(error.filename).name} in it)") from error
    except ValueError as error:
        raise PmgError(f"{folder / METRICS_FILE} is damaged; run `pmg-{command}` again") from error
    owner = metrics.get("command")
    if owner != command or not isinstance(config, DictConfig):
        raise PmgError(f"{folder} belongs to pmg-{owner}; a folder of pmg-{command} is needed")
    return config, metrics


def read_finished(folder: Path | str, command: str) -> tuple[DictConfig, dict[str, Any]]:
    """As `read_run`, of a completed run.

    Raises:
        PmgError: see `read_run`, or the run did not complete.
    """
    config, metrics = read_run(folder, command)
    if metrics["status"] != "completed":
        raise PmgError(f"{folder} is {metrics['status']}: run the same pmg-{command} command again to finish it")
    return config, metrics


def read_portable(folder: Path | str, command: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """As `read_finished`, with the config in built-in types and ``<name>`` for each folder of its machine."""
    config, metrics = read_finished(folder, command)
    places = {str(place): f"<{name}>" for name, place in (config.get("paths") or {}).items() if place}
    return replace_folders(OmegaConf.to_container(config), places), metrics


def replace_folders(node: Any, places: Mapping[str, str]) -> Any:
    """A config in built-in types with folders, and what lies below them, under other names.

    Args:
        node: of the config.
        places: the other name of each folder; of folders inside each other the innermost counts.
    """
    if isinstance(node, Mapping):
        return {key: replace_folders(value, places) for key, value in node.items()}
    if isinstance(node, list):
        return [replace_folders(value, places) for value in node]
    if isinstance(node, str):
        for place in sorted(places, key=len, reverse=True):
            if node == place or node.startswith(f"{place}/"):
                return places[place] + node.removeprefix(place)
    return node


def refuse_other(
    folder: Path, command: str, identity: Mapping[str, Any], dtype: str | None = "auto"
) -> dict[str, Any] | None:
    """Refuses a folder that holds something else than an earlier part of this very run; writes nothing.

    Args:
        folder: of the run.
        command: the verb.
        identity: what the run is made with.
        dtype: its floating point type; auto: that of the folder.

    Returns:
        The ``metrics.json`` of the run that goes on, or None for a new one.

    Raises:
        PmgError: the folder is another command's or damaged, or its run was made with other values.
    """
    path = folder / METRICS_FILE
    try:
        known = json.loads(path.read_text()) if path.exists() else None
    except ValueError as error:
        raise PmgError(f"{path} is damaged; remove it to go on in its folder, as a new run") from error
    if known is None:
        return None
    if known.get("command") != command:
        raise PmgError(f"run_dir {folder} belongs to pmg-{known.get('command')}; name another one")
    differ = find_differences(command, known.get("identity") or {}, identity)
    if not holds_dtype(known, dtype):
        differ["dtype"] = (known["dtype"], dtype)
    if differ and (known.get("status") == "completed" or _has_begun(folder)):
        more = f", or start from its weights in another: init_from={folder}" if command == "train" else ""
        raise PmgError(
            f"run_dir {folder} holds a run of other values: {tell_differences(differ)}. Name a new run_dir{more}, "
            "or remove the folder"
        )
    return known


def holds_dtype(known: Mapping[str, Any], dtype: str | None) -> bool:
    """Whether a run of this floating point type may go on from an earlier one."""
    return dtype in (None, "auto") or known.get("dtype") in (None, dtype)


def _has_begun(folder: Path) -> bool:
    return any(path.stat().st_size for pattern in BEGUN for path in folder.glob(pattern))


class Record:
    """Writes a run's ``config.yaml`` once and its ``metrics.json`` at each change of status.

    Where the folder holds an earlier run nothing is written before `begin`: a command that is refused until then
    leaves it as it was. One that is complete stays so until it has been completed again.

    Args:
        cfg: of the run.
        folder: of the run.
        facts: for ``metrics.json``.
        known: the earlier ``metrics.json``, or None in a new folder.
    """

    def __init__(
        self, cfg: DictConfig, folder: Path, facts: Mapping[str, Any], known: Mapping[str, Any] | None
    ) -> None:
        self.folder = folder
        self.config = OmegaConf.to_yaml(cfg, resolve=True)
        self.known = known or {}
        self.facts = {
            **facts,
            "id": self.known.get("id") or uuid.uuid4().hex[:12],
            "process": os.getpid(),
            "versions": versions(),
            "git": git_state(),
            "hardware": hardware(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        same = self.known.get("identity") == self.facts["identity"]
        self.complete = self.known.get("status") == "completed" and same
        self.begun = False

    def begin(self) -> None:
        """Takes the folder: from here on it tells of this run."""
        if not self.begun:
            self.begun = True
            self.write("running", {})

    def write(self, status: str, values: Mapping[str, Any]) -> None:
        """Writes the run's status and what it has so far; nothing before `begin`."""
        if not self.begun or (self.complete and status != "completed"):
            return
        if status in ("running", "completed"):
            atomic_write_text(self.folder / CONFIG_FILE, self.config)
        atomic_write_json(self.folder / METRICS_FILE, {"status": status, **self.facts, **values})
