"""Run folders: the identity of a run, and its record in ``metrics.json``."""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pmg.cache import atomic_write_json, atomic_write_text
from pmg.configuration.identity import find_differences, format_differences, names_run, select_result
from pmg.configuration.instantiate import to_plain
from pmg.configuration.masked_folders import mask_folders, named_folders
from pmg.configuration.precision import ANY_DTYPE, settle_dtype
from pmg.configuration.trees import leaves, replace_texts
from pmg.domain import PmgError
from pmg.runs.content import digest_content, digest_path, names_content
from pmg.runs.provenance import git_state, hardware, versions

log = logging.getLogger(__name__)

CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
ENCODER = "encoder"  # the folder of the trained weights in that of their run
TRAINED = ENCODER  # whose digest a training's record has
EXPORTED_ENCODER = "preference_encoder"  # folder in that of an exported pipeline
OWN = "<run_dir>"  # placeholder of the run folder in `mask_folders`
OUTPUTS = dict.fromkeys(("evaluate", "keywords", "survey"), "results_dir")
OUTPUTS |= {"export": "folder", "prepare": "source.folder"}
# files from which an incomplete run is resumed
SHARDS = "shards"  # in a run's folder: the folders of its shards, which launchers may have run before it
PARTIAL_RESULTS = ("checkpoints/last.ckpt", "records.jsonl", f"{SHARDS}/*/records.jsonl")


def identify(cfg: DictConfig, command: str) -> dict[str, Any]:
    """Returns the identity of a run of a whole config: the values that decide its result, by dotted key.

    The identity of a run that it reads, e.g. `generate_run`, is included with the prefix ``generate_run.``, and the
    digests of data and weights that it names, e.g. ``data.folder.content``.
    """
    values = select_result(command, dict(leaves(mask_folders(cfg, ANY_DTYPE))))
    plain = dict(leaves(to_plain(cfg)))
    named = [key for key, value in values.items() if names_content(key) and not str(value).startswith(OWN)]
    places = {key: plain[key] for key in named if isinstance(plain.get(key), str) and plain[key]}
    if into := plain.get("into"):  # where the run itself replaces models: a killed one goes on
        into = os.path.abspath(plain["paths.assets_dir"] if into == "assets" else into)
        places = {key: path for key, path in places.items() if not Path(os.path.abspath(path)).is_relative_to(into)}
    values |= digest_content(places, plain.get("paths.cache_dir"))
    values.pop("dtype", None)  # a resumed run keeps its dtype on any CPU, see `resolve_dtype`
    for key in [key for key in values if names_run(key)]:
        folder = values.pop(key)
        if folder and not str(folder).startswith(OWN):
            read = read_identity(Path(OmegaConf.select(cfg, key))) or {"folder": folder}
            values |= {f"{key}.{name}": value for name, value in read.items()}
    if values.get("pipeline"):  # its parts are in the config, but for the trained weights
        values["pipeline.weights"] = digest_path(Path(plain["pipeline"]) / EXPORTED_ENCODER)
    return values


def read_identity(folder: Path) -> dict[str, Any]:
    """Returns the identity of the run in `folder`, with the checksum of its trained weights; empty without a run."""
    metrics = read_json(folder / METRICS_FILE)
    identity, made = metrics.get("identity"), metrics.get("made") or {}
    if not isinstance(identity, dict):
        return {}
    return {**identity, "weights": made[TRAINED]} if TRAINED in made else identity


def read_json(path: Path) -> dict[str, Any]:
    """Returns the mapping in a JSON file; empty for a file that is missing or damaged."""
    try:
        return _read_mapping(path)
    except (OSError, ValueError):
        return {}


def resolve_dtype(cfg: DictConfig) -> str | None:
    """Replaces ``dtype: auto`` by the run's in the folder, or by the best of the device that trains or draws.

    Returns it, None without a dtype. PmgError if the dtype is unknown.
    """
    if "dtype" not in cfg:
        return None
    if cfg.dtype not in ("auto", "bfloat16", "float32"):
        raise PmgError(f"dtype: no type '{cfg.dtype}'. Use auto, bfloat16 or float32")
    earlier = read_json(Path(cfg.run_dir, METRICS_FILE)).get("dtype")
    device = OmegaConf.select(cfg, "trainer.accelerator") or cfg.get("device") or "cpu"
    cfg.dtype = dtype = settle_dtype(earlier if cfg.dtype == "auto" else cfg.dtype, str(device))
    return dtype


def written_folders(values: Mapping[str, Any], command: str) -> list[Path]:
    """Returns the folders that a run writes: its run folder, and the folder of results that other commands read.

    `values` are those of the config, by dotted key. A shard of an evaluation doesn't write the latter; the merging
    command does.
    """
    found = [values["run_dir"]]
    if (key := OUTPUTS.get(command)) and values.get("shard.index") is None:
        found.append(values.get(key))
    return list({os.path.abspath(folder): Path(folder) for folder in found if folder}.values())


def read_run(folder: Path | str, command: str) -> tuple[DictConfig, dict[str, Any]]:
    """Returns the resolved config and ``metrics.json`` of a run; PmgError if none, damaged or of another command."""
    folder = Path(folder)
    try:
        metrics = _read_record(folder / METRICS_FILE)
        text = (folder / CONFIG_FILE).read_bytes()
        config = OmegaConf.create(text.decode())
    except OSError as error:
        missing = f"{folder} is not a run folder (no {Path(error.filename).name} in it)"
        raise PmgError(f"{missing}. Run {_command_of(folder, command)} first") from error
    except (ValueError, YAMLError, OmegaConfBaseException) as error:
        raise PmgError(f"{folder / METRICS_FILE} is damaged; run `pmg-{command}` again") from error
    if metrics.get("config", sha256(text).hexdigest()) != sha256(text).hexdigest():
        raise PmgError(f"{folder / CONFIG_FILE} was changed; run `pmg-{command}` again in another run_dir")
    owner = metrics.get("command")
    if owner != command or not isinstance(config, DictConfig):
        raise PmgError(f"{folder} belongs to pmg-{owner}; a folder of pmg-{command} is needed")
    return config, metrics


def _read_mapping(path: Path) -> dict[str, Any]:
    """Returns the mapping of a JSON file; ValueError if it holds none."""
    if not isinstance(values := json.loads(path.read_text()), dict):
        raise ValueError(f"{path} holds no mapping")
    return values


def _read_record(path: Path) -> dict[str, Any]:
    """Returns the mapping of a ``metrics.json``; ValueError if it holds none, or one without a status."""
    if not isinstance((record := _read_mapping(path)).get("status"), str):
        raise ValueError(f"{path} has no status")
    return record


def _command_of(folder: Path, command: str) -> str:
    """Returns the command that writes a run folder: with the experiment that the folder is named after, if it is."""
    experiments = files("pmg.conf") / "experiment"
    named = [part for part in folder.parts[-2:] if (experiments / f"{part}.yaml").is_file()]
    return f"pmg-{command} {f'experiment={named[-1]}' if named else f'run_dir={folder}'}"


def read_finished(folder: Path | str, command: str) -> tuple[DictConfig, dict[str, Any]]:
    """Returns the same as `read_run`, for a completed run; PmgError if it is none."""
    config, metrics = read_run(folder, command)
    if metrics["status"] != "completed":
        raise PmgError(f"{folder} is {metrics['status']}: run the same pmg-{command} command again to finish it")
    return config, metrics


def read_masked(folder: Path | str, command: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the same as `read_finished`, with ``<name>`` for each folder in the config, in built-in types."""
    config, metrics = read_finished(folder, command)
    places = {folder: name for name, folder in named_folders(config.get("paths") or {}).items()}
    return replace_folders(OmegaConf.to_container(config), places), metrics


def replace_folders(node: Any, places: Mapping[str, str]) -> Any:
    """Returns a config in built-in types with other folders at the beginnings of paths, the innermost first."""
    innermost_first = sorted(places, key=len, reverse=True)

    def change(text: str) -> str:
        """Returns a path with another beginning; other texts as they are."""
        for place in innermost_first:
            if text == place or text.startswith(f"{place}/"):
                return places[place] + text.removeprefix(place)
        return text

    return replace_texts(node, change)


def completed_metrics(cfg: DictConfig, command: str) -> dict[str, Any] | None:
    """Returns the ``metrics.json`` of a completed run of the same identity in `cfg.run_dir`; None without one.

    What the run made has to be there, and as it was made.
    """
    try:
        _, metrics = read_run(cfg.run_dir, command)
    except PmgError:
        return None
    same = metrics.get("identity") == identify(cfg, command) and _matches_dtype(metrics, cfg.get("dtype"))
    if metrics["status"] != "completed" or not same:
        return None
    made = metrics.get("made") or {}
    if any(digest_path(Path(cfg.run_dir, name)) != digest for name, digest in made.items()):
        return None
    log.info("%s is complete", cfg.run_dir)
    return metrics


def refuse_other(
    folder: Path, command: str, identity: Mapping[str, Any], dtype: str | None = "auto"
) -> dict[str, Any] | None:
    """Checks that a folder is new or contains an earlier part of the same run; writes nothing.

    Returns the ``metrics.json`` of the run that is resumed, or None for a new run; a dtype of ``auto`` matches every
    earlier one. PmgError if the folder is another command's or damaged, or its run was made with other values.
    """
    path = folder / METRICS_FILE
    try:
        earlier = _read_record(path) if path.exists() else None
    except ValueError as error:
        raise PmgError(f"{path} is damaged. Remove it to start a new run in its folder.") from error
    if earlier is None:
        return None
    if earlier.get("command") != command:
        raise PmgError(f"run_dir {folder} belongs to pmg-{earlier.get('command')}; name another one")
    differ = find_differences(command, earlier.get("identity") or {}, identity)
    if not _matches_dtype(earlier, dtype):
        differ["dtype"] = (earlier["dtype"], dtype)
    partial = (path for pattern in PARTIAL_RESULTS for path in folder.glob(pattern))
    if differ and (earlier.get("status") == "completed" or any(path.stat().st_size for path in partial)):
        more = f", or start from its weights in another: init_from={folder}" if command == "train" else ""
        raise PmgError(
            f"run_dir {folder} holds a run of other values: {format_differences(differ)}. Name a new run_dir{more}, "
            "or remove the folder"
        )
    return earlier


def _matches_dtype(earlier: Mapping[str, Any], dtype: str | None) -> bool:
    return dtype in (None, "auto") or earlier.get("dtype") in (None, dtype)


class RunRecord:
    """Writes ``config.yaml`` and ``metrics.json``, the manifest of a run's folder, at each change of status.

    Nothing is written before `begin`: a command whose checks fail leaves the folder of an earlier run unchanged. A
    completed run of the same identity keeps its record until the new run completes. `config` is YAML, `facts` are
    entries of ``metrics.json``, and `earlier` is the earlier ``metrics.json``, or None in a new folder.
    """

    def __init__(self, config: str, folder: Path, facts: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> None:
        self.folder, self.config = folder, config
        self.earlier = earlier or {}
        self.facts = {
            **facts, "config": sha256(config.encode()).hexdigest(),
            "id": self.earlier.get("id") or uuid.uuid4().hex[:12], "process": os.getpid(),
            "versions": versions(), "git": git_state(), "hardware": hardware(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }  # fmt: skip
        same = self.earlier.get("identity") == self.facts["identity"]
        self.complete = self.earlier.get("status") == "completed" and same
        self.begun = False

    def begin(self) -> None:
        """Writes the status ``running``; from now on the folder's record is that of this run."""
        if not self.begun:
            self.begun = True
            self.write("running", {})

    def write(self, status: str, values: Mapping[str, Any]) -> None:
        """Writes status and values so far; nothing before `begin`."""
        if not self.begun or (self.complete and status != "completed"):
            return
        if status in ("running", "completed"):
            atomic_write_text(self.folder / CONFIG_FILE, self.config)
        atomic_write_json(self.folder / METRICS_FILE, {"status": status, **self.facts, **values})
