"""MLflow, by default in a sqlite file beside the run folders."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from PIL import Image
from pytorch_lightning.loggers import MLFlowLogger

from pmg.configuration.instantiate import leaves
from pmg.tracking.tracker import IMAGE, Label, files_of

ID = "pmg.id"  # the tag under which a run is found again
STATUS = {0: "FINISHED", 130: "KILLED"}  # 130: by Ctrl-C; every other code: FAILED
BATCH = 100  # parameters that MLflow takes at once


class MlflowTracker(MLFlowLogger):
    """Logs into a run of an MLflow store.

    Args:
        label: gives id, name and tags.
        store: address of the store, e.g. ``sqlite:///outputs/mlflow.db``.
        artifacts: folder of what is kept in files, for an experiment that is made.
        experiment: runs that are shown together; made where it is missing.
    """

    def __init__(self, label: Label, store: str, artifacts: str, experiment: str) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before it is imported
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        found = {group: ",".join(options) for group, options in label.tags.items()}
        super().__init__(
            experiment_name=experiment, run_name=label.name, tracking_uri=store,
            tags={ID: label.id, "command": label.command, **found},
            run_id=find_run(store, artifacts, experiment, label.id),
        )  # fmt: skip

    def record_config(self, config: Mapping[str, Any]) -> None:
        """Begins the run: the config as a file, and as parameters, which MLflow never changes once they are set."""
        from mlflow.entities import Param

        self.experiment.update_run(self.run_id, status="RUNNING")
        self.experiment.log_text(self.run_id, yaml.safe_dump(dict(config), sort_keys=False), "config.yaml")
        known = self.experiment.get_run(self.run_id).data.params
        new = [Param(name, str(value)) for name, value in leaves(config) if name not in known]
        for first in range(0, len(new), BATCH):
            self.experiment.log_batch(self.run_id, params=new[first : first + BATCH])

    def record_image(self, name: str, path: Path) -> None:
        """Keeps the picture under its own file name."""
        self.experiment.log_artifact(self.run_id, str(path), name)

    def record_table(self, name: str, table: pd.DataFrame) -> None:
        """Keeps the table as CSV, and its pictures in a folder, one a row."""
        if IMAGE in table:
            places = [f"tables/{name}/{row:04d}.png" for row in range(len(table))]
            for path, place in zip(table[IMAGE], places, strict=True):
                with Image.open(path) as picture:
                    self.experiment.log_image(self.run_id, picture, place)
            table = table.assign(**{IMAGE: places})
        self.experiment.log_text(self.run_id, table.to_csv(index=False), f"tables/{name}.csv")

    def record_artifact(self, name: str, kind: str, paths: Sequence[Path]) -> None:
        """Copies the files into the store."""
        for place, path in files_of(paths).items():
            folder = Path(kind, name, place).parent
            self.experiment.log_artifact(self.run_id, str(path), str(folder))

    def finalize(self, status: str = "success") -> None:
        """Leaves the run open: Lightning calls this at the end of the training, which isn't the end of the run."""

    def close(self, code: int) -> None:
        """Ends the run."""
        self.experiment.set_terminated(self.run_id, STATUS.get(code, "FAILED"))


def find_run(store: str, artifacts: str, experiment: str, run_id: str) -> str | None:
    """MLflow's own id of the run with our id; None where there is none yet.

    The experiment is made where it is missing.
    """
    from mlflow.tracking import MlflowClient

    client = MlflowClient(store)
    known = client.get_experiment_by_name(experiment)
    if known is None:
        client.create_experiment(experiment, artifacts)
        return None
    runs = client.search_runs([known.experiment_id], f"tags.`{ID}` = '{run_id}'")
    return runs[0].info.run_id if runs else None
