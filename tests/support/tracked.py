"""Reads back what trackers wrote, each with its own library's reader."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd


def wandb_records(run_dir):
    """The records of a run's offline files, as W&B's own reader prints them, one list a file, oldest first."""
    files = sorted(Path(run_dir).glob("wandb/offline-run-*/run-*.wandb"))
    read = [sys.executable, "-m", "wandb", "leet", "inspect", "--json"]
    texts = [subprocess.run([*read, file], capture_output=True, text=True, check=True).stdout for file in files]
    return [[json.loads(line) for line in text.splitlines()] for text in texts]


def of_type(records, kind):
    return [record[kind] for record in records if record["type"] == kind]


def last(records, kind):
    """The values of all updates of a kind (config, summary), later ones on top."""
    found = {}
    for record in of_type(records, kind):
        found.update(record.get("update", {}))
    return found


class Mlflow:
    """An MLflow store read by its own client."""

    def __init__(self, folder):
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        self.runs = self.client.search_runs(experiments)

    def run(self, name):
        (found,) = [run for run in self.runs if run.info.run_name == name]
        return found

    def files(self, run, folder=None):
        found = []
        for entry in self.client.list_artifacts(run.info.run_id, folder):
            found += self.files(run, entry.path) if entry.is_dir else [entry.path]
        return found


def tensorboard(run_dir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_dir / "tensorboard"), {"scalars": 0, "images": 0, "tensors": 0})
    return events.Reload()


def text_of(events, name):
    return events.Tensors(f"{name}/text_summary")[-1].tensor_proto.string_val[0].decode()


def curves(place, verb):
    """Values by (metric, step) of a command's run in each tracker."""
    records = wandb_records(place / verb)[-1]
    rows = [item["item"] for item in of_type(records, "history")]
    table = pd.read_csv(place / verb / "csv/version_0/metrics.csv")
    events, store = tensorboard(place / verb), Mlflow(place)
    run = store.run(verb)
    found = {
        "wandb": {
            (k, int(row["trainer/global_step"])): v for row in rows for k, v in row.items() if "trainer" not in k
        },
        "csv": {
            (k, int(row["step"])): v for _, row in table.iterrows() for k, v in row.dropna().items() if k != "step"
        },
        "tensorboard": {(k, e.step): e.value for k in events.Tags()["scalars"] for e in events.Scalars(k)},
        "mlflow": {
            (k, m.step): m.value for k in run.data.metrics for m in store.client.get_metric_history(run.info.run_id, k)
        },
    }
    wanted = ("train/", "val/", "results/", "paired/", "gap_closed/", "cost/", "objective")
    return {name: {key: v for key, v in part.items() if key[0].startswith(wanted)} for name, part in found.items()}
