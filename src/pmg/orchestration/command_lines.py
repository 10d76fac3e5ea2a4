"""Command lines that are printed at the end of a run: the one that resumes it, and the one that follows it."""

from __future__ import annotations

import argparse
import contextlib
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pmg.configuration.instantiate import import_target
from pmg.configuration.schemas import read_keys
from pmg.paths import display_path, is_same_folder

READERS = {"train": ("generate", "train_run"), "generate": ("evaluate", "generate_run")}
"""By command, the one that reads its run, and the key that names the run."""
REAL_USERS = "real_users"
"""The experiment that trains on data of real users."""
OVERLAYS = {"experiment", "debug"}
"""Groups that are no keys of a config."""


def next_command(command: str, cfg: DictConfig, overrides: Sequence[str]) -> str | None:
    """Returns the command line that continues a completed run, or None at the end of the chain.

    Args:
        command: the verb of the completed run.
        cfg: its composed config, with the keys of other commands, which an experiment may give.
        overrides: of its command line.
    """
    if command in ("evaluate", "study"):
        return shlex.join(["pmg-report", str(_reported(cfg))])
    if command == "export":
        return shlex.join(["pmg-app", f"pipeline={display_path(cfg.folder)}"]) if cfg.folder else None
    if command == "prepare":
        return _train_on_prepared(cfg, overrides)
    if command not in READERS or _select(cfg, "shard.index") is not None:
        return None
    if command == "generate" and not _has_truth(cfg):
        return None
    reader, key = READERS[command]
    following = _kept(overrides, reader, key)
    if not is_same_folder(_select(cfg, key), cfg.run_dir):  # an experiment may name the run
        following.append(f"{key}={display_path(cfg.run_dir)}")
    return shlex.join([f"pmg-{reader}", *_config_folder(), *following])


def _train_on_prepared(cfg: DictConfig, overrides: Sequence[str]) -> str | None:
    """Returns the command line that trains on prepared interactions; None for catalogues of drawings."""
    if _select(cfg, "data.name") is None:
        return None
    following = _kept(overrides, "train")
    if not any(override_root(override) == "experiment" for override in following):
        following.insert(0, f"experiment={REAL_USERS}")
    return shlex.join(["pmg-train", *_config_folder(), *following])


def _has_truth(cfg: DictConfig) -> bool:
    """Returns whether images of a config's data set can be evaluated."""
    target = _select(cfg, "data._target_")
    return target is None or getattr(import_target("data._target_", target), "has_truth", True)


def _kept(overrides: Sequence[str], reader: str, *given: str) -> list[str]:
    """Returns the overrides that the next command reads, without its run folder and keys that are `given` anew."""
    kept = read_keys(reader) - {"run_dir", *given} | OVERLAYS
    return [override for override in overrides if override_root(override) in kept]


def resume_command(command: str, folder: Path, overrides: Sequence[str]) -> str:
    """Returns the command line that resumes a run in its folder."""
    kept = [override for override in overrides if not override.startswith("run_dir=")]
    return shlex.join([f"pmg-{command}", *_config_folder(), *kept, f"run_dir={folder}"])


def _config_folder() -> list[str]:
    """Returns this process's option that adds a folder of configs, which isn't among the overrides."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    folder = parser.parse_known_args(sys.argv[1:])[0].config_dir
    return ["--config-dir", folder] if folder else []


def _reported(cfg: DictConfig) -> Path:
    """Returns the folder of results where it contains the run, and others of the same chain; else the run's."""
    results = _select(cfg, "results_dir")
    if results is not None and Path(cfg.run_dir).resolve().is_relative_to(Path(results).resolve()):
        return display_path(results)
    return display_path(cfg.run_dir)


def override_root(override: str) -> str:
    """Returns the top-level key of an override."""
    return re.split(r"[./@=]", override.lstrip("+~"))[0]


def _select(cfg: DictConfig, key: str) -> str | None:
    with contextlib.suppress(OmegaConfBaseException):  # a value may refer to a key that this command lacks
        value: str | None = OmegaConf.select(cfg, key)
        return value
    return None
