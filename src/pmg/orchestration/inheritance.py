"""What a command takes over from the run that it continues: data, users and models, by the overrides of that run.

``pmg-generate work_dir=FOLDER`` composes the config of the training in the folder, and then its own overrides. A run's
file may be a stranger's: nothing is taken over that names a class or a plug-in, or an option that isn't pmg's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from pmg.configuration.identity import decides_result
from pmg.configuration.schemas import read_keys
from pmg.configuration.search_path import CONFIG_MODULE
from pmg.runs.run_folder import METRICS_FILE, read_json

INPUTS = {
    "generate": ("train_run", "train"),
    "evaluate": ("generate_run", "generate"),
    "export": ("train_run", "train"),
}
"""By command, the key that names the run which it continues, and the command of that run: its folder in `work_dir`."""
READERS = {"train": "generate", "generate": "evaluate"}
"""By command, the one that continues its run."""


def find_inherited(command: str, overrides: Sequence[str]) -> list[str]:
    """Returns the overrides that a command takes over from the run that its own `overrides` name; none without one.

    These are the experiment and values that decide a result and that the command reads, but for those that it is given
    itself. Nothing is taken over from the run of another experiment, or by a sweep over runs.
    """
    if command not in INPUTS:
        return []
    key, stage = INPUTS[command]
    given = _parse(overrides)
    named = given.get(key) or given.get("work_dir")
    if named is None or named.is_sweep_override() or "$" in (folder := str(named.value())):
        return []
    run = Path(folder) if named.key_or_group == key else Path(folder, stage)
    metrics = read_json(run / METRICS_FILE)
    recorded = _parse([text for text in metrics.get("overrides") or [] if isinstance(text, str)])
    own, experiment = (found["experiment"].value() if "experiment" in found else None for found in (given, recorded))
    if metrics.get("command") != stage or own not in (None, experiment):
        return []
    kept = (one for one in recorded.values() if not _is_given(one, given))
    return [one.input_line or "" for one in kept if is_inherited(command, one)]


def is_inherited(command: str, override: Override | str) -> bool:
    """Returns whether a command takes over an override of the run that it continues."""
    one = next(iter(_parse([override]).values()), None) if isinstance(override, str) else override
    if one is None or one.is_sweep_override() or "_target_" in f"{one.input_line} {one.value()}":
        return False
    key = one.key_or_group.replace("/", ".")
    root, group = key.partition(".")[0], files(CONFIG_MODULE).joinpath(one.key_or_group)
    if group.is_dir():
        options = one.value() if isinstance(one.value(), list) else [one.value()]
        if not all(re.fullmatch(r"\w+", str(name)) and (group / f"{name}.yaml").is_file() for name in options):
            return False
    known = read_keys(command) - {"plugins", "shard", "paths"}
    return root == "experiment" or (root in known and decides_result(command, key))


def _is_given(inherited: Override, given: Mapping[str, Override]) -> bool:
    """Returns whether an override of the command itself replaces an inherited one, or the group that it is below."""
    parts = re.split(r"[./]", key := inherited.key_or_group)
    return key in given or any(".".join(parts[:count]) in given for count in range(1, len(parts)))


def _parse(overrides: Sequence[str]) -> dict[str, Override]:
    """Returns overrides parsed by key, of equal ones the last; none where one can't be, which Hydra reports itself."""
    try:
        return {one.key_or_group: one for one in OverridesParser.create().parse_overrides(list(overrides))}
    except HydraException:
        return {}
