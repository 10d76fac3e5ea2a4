"""Command lines that are printed at the end of a run: the one that resumes it, and the one that follows it."""

from __future__ import annotations

import argparse
import contextlib
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pmg.configuration.identity import Values
from pmg.configuration.instantiate import import_target
from pmg.configuration.schemas import read_keys
from pmg.orchestration.inheritance import INPUTS, READERS, is_inherited
from pmg.paths import display_path
from pmg.runs.run_folder import CONFIG_FILE, METRICS_FILE, read_json

DEFAULT_DATA = "looks"  # the option of `data` that pmg-app has by itself
KINDS = re.compile(r"[\d_.eE+-]+|(?i:true|false|null|[+-]?(inf|nan))")
"""What Hydra reads as a value of another kind than a text."""


def next_command(command: str, values: Values, overrides: Sequence[str]) -> str | None:
    """Returns the command line that continues a completed run, or None at the end of the chain.

    `values` are those of its composed config by dotted key. Data, users and models are taken over from the run, see
    `find_inherited`.
    """
    if command in ("evaluate", "study"):
        return shlex.join(["pmg-report", str(_reported(values))])
    if command == "export":
        return _try_out(values) if values.get("folder") else None
    if command == "prepare":
        return _train_on_prepared(values, overrides)
    if command not in READERS or values.get("shard.index") is not None:
        return None
    target = values.get("data._target_")
    if command == "generate" and target and not getattr(import_target("data._target_", target), "has_truth", True):
        return None
    reader = READERS[command]
    key, _ = INPUTS[reader]
    folder = display_path(values["run_dir"])
    named = override("work_dir", folder.parent) if folder.name == command else override(key, folder)
    kept = [text for text in _kept(overrides, reader, key, "results_dir") if not is_inherited(reader, text)]
    return shlex.join([f"pmg-{reader}", *config_folder(), named, *kept])


def _try_out(values: Values) -> str:
    """Returns the command line that opens the app on an exported pipeline, with the data that it was trained on."""
    run = Path(str(values["train_run"]))
    data = read_json(run / METRICS_FILE).get("choices", {}).get("data", DEFAULT_DATA)
    given = [] if data == DEFAULT_DATA else [f"data={data}"]
    with contextlib.suppress(OSError, OmegaConfBaseException):  # data in a folder of their own
        config = OmegaConf.load(run / CONFIG_FILE) if given else OmegaConf.create()
        folder = OmegaConf.select(config, "data.folder")
        given += [override("data.folder", display_path(folder))] if folder else []
        for sign in ("positive", "negative"):
            actions = OmegaConf.select(config, f"data.feedback.{sign}")
            given += [f"data.feedback.{sign}=[{','.join(map(quote, actions))}]"] if actions else []
    return shlex.join(["pmg-app", *config_folder(), override("pipeline", display_path(values["folder"])), *given])


def _train_on_prepared(values: Values, overrides: Sequence[str]) -> str | None:
    """Returns the command line that trains on prepared interactions; None for catalogues of drawings."""
    if values.get("data.name") is None:
        return None
    following = _kept(overrides, "train")
    if "experiment" not in map(override_root, following):
        following.insert(0, "experiment=real_users")
    return shlex.join(["pmg-train", *config_folder(), *following])


def _kept(overrides: Sequence[str], reader: str, *given: str) -> list[str]:
    """Returns the overrides that the next command reads, without its run folder and keys that are `given` anew."""
    kept = read_keys(reader) - {"run_dir", "work_dir", *given} | {
        "experiment",
        "debug",
    }  # the last are groups, but no keys
    return [override for override in overrides if override_root(override) in kept]


def resume_command(command: str, folder: Path, overrides: Sequence[str]) -> str:
    """Returns the command line that resumes a run in its folder."""
    kept = [override for override in overrides if not override.startswith("run_dir=")]
    return shlex.join([f"pmg-{command}", *config_folder(), *_single_run(), *kept, override("run_dir", folder)])


def override(key: str, value: object) -> str:
    """Returns an override of the command line, see `quote`."""
    return f"{key}={quote(str(value))}"


def quote(text: str) -> str:
    """Returns a text of an override, in quotes where Hydra's grammar would read it otherwise."""
    if re.fullmatch(r"[A-Za-z0-9_./+@%:-]+", text) and not KINDS.fullmatch(text):
        return text
    quoted = re.sub(r"\\*(?='|$)", lambda found: found[0] * 2, text).replace("'", "\\'")
    return f"'{quoted}'"


def _single_run() -> list[str]:
    """Returns what makes a run of a job of a sweep, or of an experiment that sweeps by itself: no override either."""
    swept = HydraConfig.initialized() and OmegaConf.select(HydraConfig.get(), "mode") == RunMode.MULTIRUN
    return ["hydra.mode=RUN"] if swept or "hydra.mode=RUN" in sys.argv else []


def config_folder(key: str = "") -> list[str]:
    """Returns this process's option that adds a folder of configs, or for a `key` the override that does."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    folder = parser.parse_known_args(sys.argv[1:])[0].config_dir
    given = [f"{key}=['file://{Path(str(folder)).absolute()}']"] if key else ["--config-dir", folder]
    return given if folder else []


def _reported(values: Values) -> Path:
    """Returns the folder of results where it contains the run, and others of the same chain; else the run's."""
    results, folder = values.get("results_dir"), values["run_dir"]
    if results is not None and Path(folder).resolve().is_relative_to(Path(results).resolve()):
        return display_path(results)
    return display_path(folder)


def override_root(override: str) -> str:
    """Returns the top-level key of an override."""
    return re.split(r"[./@=]", override.lstrip("+~"))[0]
