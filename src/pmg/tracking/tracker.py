"""The interface of trackers, and `Tracking`, which forwards to all trackers of a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

IMAGE = "image"  # column of a table with the paths of images


@dataclass(frozen=True)
class Label:
    """Name and tags of a run in trackers.

    Attributes:
        id: identifier of the run, the same after a resume.
        name: display name.
        command: the verb, e.g. ``"train"``.
        tags: chosen options by config group, e.g. ``{"data": ["looks"], "method": ["soft", "pmg"]}``.
    """

    id: str
    name: str
    command: str
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

    def record_config(self, config: Mapping[str, Any]) -> None:
        """Logs the resolved config."""
        for tracker in self:
            tracker.record_config(config)

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
