"""Tracker of CSV files in the run folder; images and artifacts are listed, not copied."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pytorch_lightning.loggers import CSVLogger

from pmg.cache import atomic_write_text
from pmg.configuration.ranges import Count
from pmg.tracking.tracker import IMAGE, Label, files_of


class CsvTracker(CSVLogger):
    """Writes ``metrics.csv``, ``hparams.yaml``, ``NAME.csv`` of each table, and the list ``artifacts.csv``.

    They are in ``save_dir/name/version``; without a version in ``version_0``, and the next number at each resume.
    """

    def __init__(
        self, label: Label, save_dir: str, name: str = "csv", version: str | None = None,
        flush_logs_every_n_steps: Count = 100,
    ) -> None:  # fmt: skip
        super().__init__(save_dir, name, version, flush_logs_every_n_steps=flush_logs_every_n_steps)
        self._artifacts: list[tuple[str, str, str, int]] = []
        self._step = 0

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds a row; values without a step get the latest step."""
        self._step = self._step if step is None else step
        super().log_metrics(dict(metrics), self._step)

    def record_config(self, config: Mapping[str, Any]) -> None:
        """Writes ``hparams.yaml``."""
        self.log_hyperparams(dict(config))
        self.save()

    def record_image(self, name: str, path: Path) -> None:
        """Lists the image."""
        self.record_artifact(name, "image", [path])

    def record_table(self, name: str, table: pd.DataFrame) -> None:
        """Writes the table, with image paths relative to it."""
        if IMAGE in table:
            table = table.assign(**{IMAGE: [self._relative(path) for path in table[IMAGE]]})
        atomic_write_text(Path(self.log_dir, f"{name}.csv"), table.to_csv(index=False))

    def record_artifact(self, name: str, kind: str, paths: Sequence[Path]) -> None:
        """Lists the files with their sizes in bytes."""
        self._artifacts += [(name, kind, self._relative(p), p.stat().st_size) for p in files_of(paths).values()]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("name", "kind", "file", "bytes"), *self._artifacts])
        atomic_write_text(Path(self.log_dir, "artifacts.csv"), text.getvalue())

    def close(self, code: int) -> None:
        """Writes buffered rows."""
        self.save()

    def _relative(self, path: Path) -> str:
        return os.path.relpath(path, self.log_dir)
