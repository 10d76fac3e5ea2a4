"""Weights & Biases: one run a job, found again by the id of the run's folder."""

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

STEP = "trainer/global_step"  # what Lightning calls it
LONGEST_TAG = 64  # characters


class WandbTracker(WandbLogger):
    """Begins a run of Weights & Biases, or goes on with it, and logs into it.

    Args:
        label: gives id, name, job type and tags.
        save_dir: the run's folder; an offline run lies in its folder ``wandb`` until ``wandb sync`` sends it.
        project: that the run appears in.
        entity: user or team that the project belongs to; null: your default.
        group: runs that are shown together.
        tags: beside those of the label.
        notes: on the run.
        offline: whether nothing is sent now.

    Raises:
        PmgError: an online run can't begin.
    """

    def __init__(
        self,
        label: Label,
        save_dir: str,
        project: str = "pmg",
        entity: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        notes: str | None = None,
        offline: bool = True,
    ) -> None:
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
            raise PmgError(f"wandb can't begin a run ({reason}); logger.wandb.offline=true needs no server") from error
        experiment.define_metric(STEP)
        experiment.define_metric("*", step_metric=STEP, step_sync=True)
        super().__init__(name=label.name, save_dir=save_dir, id=label.id, project=project, experiment=experiment)

    def record_config(self, config: Mapping[str, Any]) -> None:
        """Makes the config the run's."""
        self.log_hyperparams(dict(config))

    def record_image(self, name: str, path: Path) -> None:
        """Logs the picture."""
        self.experiment.log({name: wandb.Image(str(path))})

    def record_table(self, name: str, table: pd.DataFrame) -> None:
        """Logs the table, pictures in their cells."""
        shown = table.astype(object).where(table.notna(), None)
        if IMAGE in shown:
            shown[IMAGE] = [wandb.Image(str(path)) for path in table[IMAGE]]
        self.experiment.log({name: wandb.Table(columns=list(shown.columns), data=shown.to_numpy().tolist())})

    def record_artifact(self, name: str, kind: str, paths: Sequence[Path]) -> None:
        """Logs the files as the next version of this run's artifact; they stay where they are until they are sent."""
        artifact = wandb.Artifact(f"{name}-{self.experiment.id}", type=kind)
        for place, path in files_of(paths).items():
            artifact.add_file(str(path), name=place, policy="immutable", skip_cache=True)
        self.experiment.log_artifact(artifact)

    def close(self, code: int) -> None:
        """Finishes the run; without its code a crash would be shown as finished."""
        self.experiment.finish(exit_code=code)
