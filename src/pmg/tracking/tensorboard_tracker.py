"""Tracker of TensorBoard: scalars, images, and tables as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger

from pmg.models.vision.pictures import FORMATS
from pmg.tracking.tracker import IMAGE, Label, files_of


class TensorBoardTracker(TensorBoardLogger):
    """Writes event files into ``save_dir/name/version``; artifacts are listed as text."""

    def __init__(self, label: Label, save_dir: str, name: str = "tensorboard", version: str = "") -> None:
        super().__init__(save_dir, name, version, default_hp_metric=False)
        self._label = label

    def record_config(self, config: Mapping[str, Any]) -> None:
        """Logs the config as YAML, and the label as text."""
        self.log_hyperparams(dict(config))
        tags = (f"{group}={option}" for group, options in self._label.tags.items() for option in options)
        self._text("run", f"{self._label.command} {self._label.name} ({self._label.id}): {', '.join(tags)}")
        self._text("config", f"```yaml\n{yaml.safe_dump(dict(config), sort_keys=False)}```")

    def record_image(self, name: str, path: Path) -> None:
        """Logs the image."""
        self._picture(name, path, 0)

    def record_table(self, name: str, table: pd.DataFrame) -> None:
        """Logs the table as text, and its images under one name with the row as step."""
        if IMAGE in table:
            for row, path in enumerate(table[IMAGE]):
                self._picture(name, path, row)
            table = table.drop(columns=IMAGE).reset_index(names="row")
        lines = [list(table.columns), ["---"] * len(table.columns), *table.map(str).to_numpy().tolist()]
        self._text(name, "\n".join(f"| {' | '.join(line)} |" for line in lines))

    def record_artifact(self, name: str, kind: str, paths: Sequence[Path]) -> None:
        """Logs the paths of the files as text."""
        self._text(f"artifact/{name}", "\n".join(f"- {kind}: {path}" for path in files_of(paths).values()))

    def close(self, code: int) -> None:
        """Logs the exit code and closes the file."""
        self._text("exit code", str(code))
        super().finalize("success")

    def _text(self, name: str, text: str) -> None:
        self.experiment.add_text(name, text)

    def _picture(self, name: str, path: Path, step: int) -> None:
        with Image.open(path, formats=FORMATS) as picture:
            self.experiment.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")
