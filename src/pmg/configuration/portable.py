"""Configs without this machine's folders, which are equal on every machine, and without other commands' keys."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from pmg.configuration.instantiate import to_plain
from pmg.configuration.precision import ANY_DTYPE
from pmg.configuration.schemas import other_keys, read_keys
from pmg.configuration.trees import is_below, leaves

_MODELS_DIR = "models_dir"  # of `paths`: its folder says which models, not only where they are, and is part of results


def portable(cfg: DictConfig, dtype: str | None = None) -> dict[str, Any]:
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
    neutral.run_dir = "<run_dir>"
    plain: dict[str, Any] = to_plain(neutral)
    if (plain.get("shard") or {}).get("index") is None:
        plain.pop("shard", None)  # in how many parts the whole is made doesn't change it
    return plain


def named_folders(paths: Mapping[str, Any]) -> dict[str, str]:
    """Returns this machine's folders by the names that `portable` gives them, e.g. ``<assets_dir>``."""
    return {f"<{name}>": str(folder) for name, folder in paths.items() if folder and name != _MODELS_DIR}


def take_out(cfg: DictConfig, command: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Removes from a command's config, `cfg`, the keys that other commands of the pipeline read.

    Returns the removed values that the command line itself gave, by dotted key, with folders as in `portable`.
    """
    given = [_key(text) for text in overrides]
    others = other_keys(command)
    stated: dict[str, Any] = {}
    if any(key.partition(".")[0] in others for key in given):
        plain = portable(cfg, ANY_DTYPE)
        found = leaves({name: plain[name] for name in others if name in plain})
        stated = {key: value for key, value in found if any(is_below(key, one) for one in given)}
    with open_dict(cfg):
        for name in others:
            cfg.pop(name, None)
    return stated


def unread_keys(stated: Iterable[str], overrides: Sequence[str]) -> list[str]:
    """Returns the keys of overrides that gave some of the `stated` values: ``data`` for all of ``data=looks``."""
    given = dict.fromkeys(_key(text) for text in overrides)
    return [one for one in given if any(is_below(key, one) for key in stated)]


def _key(override: str) -> str:
    return re.sub(r"[@=].*", "", override.lstrip("+")).replace("/", ".")


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
