"""MLflow, by default in a sqlite file beside the run folders."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from filelock import FileLock
from PIL import Image
from pytorch_lightning.loggers import MLFlowLogger

from pmg.configuration.trees import leaves
from pmg.domain import PmgError
from pmg.models.vision.pictures import FORMATS
from pmg.tracking.tracker import IMAGE, Label, files_of

ID = "pmg.id"  # tag by which a run is resumed
STATUS = {0: "FINISHED", 130: "KILLED"}  # 130: by Ctrl-C; every other code: FAILED
BATCH = 100  # MLflow's maximum number of parameters a request


class MlflowTracker(MLFlowLogger):
    """Logs into a run of an MLflow store, a tracking URI such as ``sqlite:///outputs/mlflow.db``.

    A missing `experiment` is created, with `artifacts` as its artifact location.
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
        """Starts the run and records the config as a file and as parameters, which are immutable in MLflow."""
        from mlflow.entities import Param

        self.experiment.update_run(self.run_id, status="RUNNING")
        self.experiment.log_text(self.run_id, yaml.safe_dump(dict(config), sort_keys=False), "config.yaml")
        recorded = self.experiment.get_run(self.run_id).data.params
        new = [Param(name, str(value)) for name, value in leaves(config) if name not in recorded]
        for first in range(0, len(new), BATCH):
            self.experiment.log_batch(self.run_id, params=new[first : first + BATCH])

    def record_image(self, name: str, path: Path) -> None:
        """Logs the image under its file name."""
        self.experiment.log_artifact(self.run_id, str(path), name)

    def record_table(self, name: str, table: pd.DataFrame) -> None:
        """Logs the table as CSV, and its images in a folder, one a row."""
        if IMAGE in table:
            places = [f"tables/{name}/{row:04d}.png" for row in range(len(table))]
            for path, place in zip(table[IMAGE], places, strict=True):
                with Image.open(path, formats=FORMATS) as picture:
                    self.experiment.log_image(self.run_id, picture, place)
            table = table.assign(**{IMAGE: places})
        self.experiment.log_text(self.run_id, table.to_csv(index=False), f"tables/{name}.csv")

    def record_artifact(self, name: str, kind: str, paths: Sequence[Path]) -> None:
        """Copies the files into the store."""
        for place, path in files_of(paths).items():
            folder = Path(kind, name, place).parent
            self.experiment.log_artifact(self.run_id, str(path), str(folder))

    def finalize(self, status: str = "success") -> None:
        """Does nothing: Lightning calls this at the end of the training, and `close` ends the run."""

    def close(self, code: int) -> None:
        """Ends the run."""
        self.experiment.set_terminated(self.run_id, STATUS.get(code, "FAILED"))


def find_run(store: str, artifacts: str, experiment: str, run_id: str) -> str | None:
    """Returns MLflow's id of a run by its tag, or None; makes a missing experiment, PmgError if that can't be."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    alone = FileLock(f"{store[10:]}.lock") if store.startswith("sqlite:///") else contextlib.nullcontext()
    try:
        with alone:  # jobs of a sweep: each would create the tables, and the experiment
            client = MlflowClient(store)
            found = client.get_experiment_by_name(experiment)
            if found is None:
                client.create_experiment(experiment, artifacts)
                return None
        runs = client.search_runs([found.experiment_id], f"tags.`{ID}` = '{run_id}'")
        if found.lifecycle_stage == "deleted":
            raise PmgError(f"'{experiment}' was deleted: mlflow experiments restore, or logger.mlflow.experiment=NAME")
    except (MlflowException, OSError) as error:
        raise PmgError(f"logger=mlflow can't use {store}: {' '.join(str(error).split())[:200]}") from error
    return runs[0].info.run_id if runs else None
