"""Tracker of Weights & Biases: one run a job, resumed by the id in the run folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import wandb
from pytorch_lightning.loggers import WandbLogger

from pmg.domain import PmgError
from pmg.tracking.tracker import IMAGE, Label, files_of

STEP = "trainer/global_step"  # Lightning's name
LONGEST_TAG = 64  # characters


class WandbTracker(WandbLogger):
    """Starts or resumes a run of Weights & Biases and logs into it; PmgError if an online run can't be started.

    An offline run is stored in the subfolder ``wandb`` of `save_dir` until ``wandb sync`` uploads it. `entity` is the
    user or team of the project, null: the default one; `tags` are added to those of the label.
    """

    def __init__(
        self, label: Label, save_dir: str, *, project: str = "pmg", entity: str | None = None,
        group: str | None = None, tags: Sequence[str] = (), notes: str | None = None, offline: bool = True,
    ) -> None:  # fmt: skip
        chosen = [f"{group}={option}" for group, options in label.tags.items() for option in options]
        os.environ.setdefault("WANDB_DATA_DIR", os.path.join(save_dir, "wandb"))  # not the user's home
        try:
            experiment = wandb.init(
                mode="offline" if offline else "online", dir=save_dir, id=label.id, resume="allow", notes=notes,
                project=project, entity=entity, group=group, job_type=label.command, name=label.name,
                reinit="create_new", tags=[tag[:LONGEST_TAG] for tag in (*tags, *chosen)],
            )  # fmt: skip
        except wandb.Error as error:
            reason = " ".join(str(error).split())
            raise PmgError(
                f"wandb can't start a run ({reason}). logger.wandb.offline=true needs no server."
            ) from error
        experiment.define_metric(STEP)
        experiment.define_metric("*", step_metric=STEP, step_sync=True)
        super().__init__(name=label.name, save_dir=save_dir, id=label.id, project=project, experiment=experiment)

    def record_config(self, config: Mapping[str, Any]) -> None:
        """Logs the config."""
        self.log_hyperparams(dict(config))

    def record_image(self, name: str, path: Path) -> None:
        """Logs the image."""
        self.experiment.log({name: wandb.Image(str(path))})

    def record_table(self, name: str, table: pd.DataFrame) -> None:
        """Logs the table, with images in its cells."""
        shown = table.astype(object).where(table.notna(), None)
        if IMAGE in shown:
            shown[IMAGE] = [wandb.Image(str(path)) for path in table[IMAGE]]
        self.experiment.log({name: wandb.Table(columns=list(shown.columns), data=shown.to_numpy().tolist())})

    def record_artifact(self, name: str, kind: str, paths: Sequence[Path]) -> None:
        """Logs the files as the next version of the run's artifact, without copying them."""
        artifact = wandb.Artifact(f"{name}-{self.experiment.id}", type=kind)
        for place, path in files_of(paths).items():
            artifact.add_file(str(path), name=place, policy="immutable", skip_cache=True)
        self.experiment.log_artifact(artifact)

    def close(self, code: int) -> None:
        """Finishes the run with its exit code; without it, a crash would be shown as finished."""
        self.experiment.finish(exit_code=code)
