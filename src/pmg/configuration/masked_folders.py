"""Configs without this machine's folders, which are equal on every machine, and those of parts of a run."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from pmg.configuration.instantiate import to_plain
from pmg.configuration.schemas import read_keys

_MODELS_DIR = "models_dir"  # of `paths`: its folder says which models, not only where they are, and is part of results


def mask_folders(cfg: DictConfig, dtype: str | None = None) -> dict[str, Any]:
    """Returns the config resolved, in built-in types, with ``<name>`` for each of this machine's folders.

    `dtype` is a name for the floating point type, where it is to be left open.
    """
    neutral = copy.deepcopy(cfg)
    OmegaConf.set_readonly(neutral, False)
    if dtype and "dtype" in neutral:
        neutral.dtype = dtype
    for name in neutral.get("paths") or {}:
        if name != _MODELS_DIR:
            neutral.paths[name] = f"<{name}>"
    for name in {"run_dir", "work_dir"} & set(neutral):
        neutral[name] = f"<{name}>"
    plain: dict[str, Any] = to_plain(neutral)
    if (plain.get("shard") or {}).get("index") is None:
        plain.pop("shard", None)  # in how many parts the whole is made doesn't change it
    return plain


def named_folders(paths: Mapping[str, Any]) -> dict[str, str]:
    """Returns this machine's folders by the names that `mask_folders` gives them, e.g. ``<assets_dir>``."""
    return {f"<{name}>": str(folder) for name, folder in paths.items() if folder and name != _MODELS_DIR}


def part_config(cfg: DictConfig, command: str, run_dir: str, changes: Mapping[str, Any] | None = None) -> DictConfig:
    """Returns the config of a part of a run: the keys that its command reads, with `changes` by dotted key.

    The part writes the folder `run_dir`; the other folders are those of the whole run.
    """
    part = cfg.copy()
    OmegaConf.set_readonly(part, False)
    part.update({name: cfg[name] for name in ("train_run", "generate_run", "results_dir") if name in cfg})
    with open_dict(part):
        for name in [str(name) for name in part if name not in read_keys(command)]:
            part.pop(name)
    for key, value in {"run_dir": run_dir, **(changes or {})}.items():
        OmegaConf.update(part, key, value)
    return part
