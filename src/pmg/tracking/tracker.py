"""The interface of trackers, and `Tracking`, which forwards to all trackers of a run, built from its config."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pmg.configuration.identity import decides_result
from pmg.configuration.instantiate import instantiate
from pmg.configuration.schemas import read_keys
from pmg.configuration.trees import replace_texts, replace_values
from pmg.runs.exit_codes import exit_code

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

IMAGE = "image"  # column of a table with the paths of images
_SECRET = re.compile(
    r"(?i)(^|_)((api|access|secret|private)_?key|token|passw(or)?d|secret|credentials?|authorization)$"
)
_LOGIN = re.compile(r"(?<=://)[^/\s]+@")
HIDDEN = "<hidden>"


@dataclass(frozen=True)
class Label:
    """Name and tags of a run in trackers."""

    id: str  # the same after a resume
    name: str  # as it is shown
    command: str  # the verb, e.g. ``"train"``
    # chosen options by config group, e.g. ``{"data": ["looks"], "method": ["soft", "pmg_paper"]}``
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Tracker(Protocol):
    """A Lightning logger, built with a `Label`, that also records configs, images, tables and artifacts."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs numbers by name."""

    def record_config(self, config: Mapping[str, Any]) -> None:
        """Logs the resolved config and marks the run as running."""

    def record_image(self, name: str, path: Path) -> None:
        """Logs an image file."""

    def record_table(self, name: str, table: pd.DataFrame) -> None:
        """Logs a table, whose column `IMAGE` has paths of images."""

    def record_artifact(self, name: str, kind: str, paths: Sequence[Path]) -> None:
        """Logs files and folders as one artifact, e.g. a model."""

    def close(self, code: int) -> None:
        """Ends the run with the exit code of its process."""


class Tracking(list[Tracker]):
    """The trackers of a run; forwards each record to all of them."""

    def record_metrics(self, metrics: Mapping[str, float]) -> None:
        """Logs results of the whole run; Lightning logs those of training steps."""
        for tracker in self if metrics else ():
            tracker.log_metrics(metrics)

    def record_image(self, name: str, path: Path) -> None:
        """Logs an image file of the run folder."""
        for tracker in self:
            tracker.record_image(name, path)

    def record_table(self, name: str, table: pd.DataFrame) -> None:
        """Logs a table, whose column `IMAGE` has paths of images."""
        for tracker in self:
            tracker.record_table(name, table)

    def record_artifact(self, name: str, kind: str, *paths: Path) -> None:
        """Logs files, or a folder's with their relative paths, as an artifact of a kind, e.g. ``"model"``."""
        for tracker in self:
            tracker.record_artifact(name, kind, paths)

    def close(self, code: int) -> None:
        """Ends the run in each tracker; an error in one is logged, so that it doesn't hide the run's own error."""
        for tracker in self:
            try:
                tracker.close(code)
            except Exception:
                log.exception("could not close %s", type(tracker).__name__)


def files_of(paths: Sequence[Path]) -> dict[str, Path]:
    """Returns the files of an artifact by their name in it: relative to the folder for those of a folder."""
    found: dict[str, Path] = {}
    for path in paths:
        below = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        found |= {str(file.relative_to(path if path.is_dir() else path.parent)): file for file in below}
    return found


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
            for tracker in tracking:
                tracker.record_config(public_config(config))
        yield tracking
    except BaseException as error:
        tracking.close(exit_code(error))
        raise
    tracking.close(0)


def tags(methods: Mapping[str, Any] | None, choices: Mapping[str, Any], command: str) -> dict[str, list[str]]:
    """Returns tags: the experiment, the options of groups that decide the result, and the methods that aren't null."""
    groups = read_keys(command) | {"experiment"}
    deciding = [group for group in choices if group in groups and decides_result(command, group)]
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
