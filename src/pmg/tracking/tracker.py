"""What every tracker keeps of a run, and all trackers of a run as one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

IMAGE = "image"  # the column of a table that holds the files of pictures


@dataclass(frozen=True)
class Label:
    """What a run is called where it is tracked.

    Attributes:
        id: stays with the run's folder, so that a run that goes on is the same one.
        name: for people.
        command: the verb, e.g. ``"train"``.
        tags: what was chosen, by group, e.g. ``{"data": ["emoji"], "method": ["soft", "pmg"]}``.
    """

    id: str
    name: str
    command: str
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Tracker(Protocol):
    """A logger of Lightning, built with a `Label`, that keeps more than metrics."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keeps numbers by name."""

    def record_config(self, config: Mapping[str, Any]) -> None:
        """Keeps the resolved config, and shows that the run has begun."""

    def record_image(self, name: str, path: Path) -> None:
        """Keeps a picture."""

    def record_table(self, name: str, table: pd.DataFrame) -> None:
        """Keeps a table; a column `IMAGE` holds the paths of pictures."""

    def record_artifact(self, name: str, kind: str, paths: Sequence[Path]) -> None:
        """Keeps files and whole folders together, e.g. those of a model."""

    def close(self, code: int) -> None:
        """Ends the run with the exit code of its process."""


class Tracking:
    """All trackers of a run; where there are none, nothing happens."""

    def __init__(self, trackers: Sequence[Tracker] = ()) -> None:
        self.trackers = list(trackers)

    def __bool__(self) -> bool:
        return bool(self.trackers)

    def record_config(self, config: Mapping[str, Any]) -> None:
        """Keeps the resolved config in each tracker."""
        for tracker in self.trackers:
            tracker.record_config(config)

    def record_metrics(self, metrics: Mapping[str, float]) -> None:
        """Keeps results that belong to no step; Lightning keeps those of steps."""
        for tracker in self.trackers if metrics else ():
            tracker.log_metrics(metrics)

    def record_image(self, name: str, path: Path) -> None:
        """Keeps a picture file of the run's folder."""
        for tracker in self.trackers:
            tracker.record_image(name, path)

    def record_table(self, name: str, table: pd.DataFrame) -> None:
        """Keeps a table; a column `IMAGE` holds the paths of pictures."""
        for tracker in self.trackers:
            tracker.record_table(name, table)

    def record_artifact(self, name: str, kind: str, *paths: Path) -> None:
        """Keeps files and folders under one name.

        Args:
            name: e.g. ``"encoder"``.
            kind: e.g. ``"model"`` or ``"results"``.
            *paths: a folder, whose files keep their places in it, or files.
        """
        for tracker in self.trackers:
            tracker.record_artifact(name, kind, paths)

    def close(self, code: int) -> None:
        """Ends each tracker's run; a fault in one is logged and must not hide how the run went."""
        for tracker in self.trackers:
            try:
                tracker.close(code)
            except Exception:
                log.exception("could not close %s", type(tracker).__name__)


def files_of(paths: Sequence[Path]) -> dict[str, Path]:
    """The files of an artifact by their name in it: those below a folder by their place in that folder."""
    found = {}
    for path in paths:
        below = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        found |= {str(file.relative_to(path if path.is_dir() else path.parent)): file for file in below}
    return found
