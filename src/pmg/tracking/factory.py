"""Builds the trackers of a config and records the config in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pmg.configuration.identity import Role, find_role
from pmg.configuration.instantiate import instantiate
from pmg.configuration.trees import replace_texts, replace_values
from pmg.runs.exit_codes import exit_code
from pmg.tracking.tracker import Label, Tracking

_SECRET = re.compile(
    r"(?i)(^|_)((api|access|secret|private)_?key|token|passw(or)?d|secret|credentials?|authorization)$"
)
_LOGIN = re.compile(r"(?<=://)[^/\s]+@")
HIDDEN = "<hidden>"


@contextmanager
def open_tracking(config: Mapping[str, Any], label: Label) -> Iterator[Tracking]:
    """Builds the trackers of ``logger``, records the config in them, and closes them with the run's exit code.

    `config` is the run's, in built-in types. PmgError if a tracker's package is missing, or its service not reachable.
    """
    tracking = Tracking()
    try:
        if config.get("logger"):
            for node in filter(None, config["logger"].values()):
                tracking.append(instantiate(node, label=label))
            tracking.record_config(public_config(config))
        yield tracking
    except BaseException as error:
        tracking.close(exit_code(error))
        raise
    tracking.close(0)


def tags(methods: Mapping[str, Any] | None, choices: Mapping[str, Any], command: str) -> dict[str, list[str]]:
    """Returns tags: the experiment, the options of groups that decide the result, and the methods that aren't null."""
    deciding = [group for group in choices if group == "experiment" or find_role(command, group) is Role.RESULT]
    found = {group: [str(choices[group])] for group in deciding if choices[group]}
    return {**found, "method": [name for name, method in methods.items() if method]} if methods else found


def run_name(folder: Path, outputs: Path) -> str:
    """Returns the run folder relative to `outputs`, or its last two parts if it is outside of `outputs`."""
    folder, outputs = folder.resolve(), outputs.resolve()
    return str(folder.relative_to(outputs) if folder.is_relative_to(outputs) else Path(*folder.parts[-2:]))


def public_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config in built-in types without secrets and without the loggers."""
    shown: dict[str, Any] = {name: value for name, value in config.items() if name != "logger"}
    shown = replace_values(shown, lambda name, value: HIDDEN if value and _SECRET.search(name) else value)
    return dict(replace_texts(shown, lambda text: _LOGIN.sub(f"{HIDDEN}@", text)))
