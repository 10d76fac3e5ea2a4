"""Labels, secrets, and every kind of tracker by itself; a sweep's jobs, crashes, runs that go on."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from omegaconf import OmegaConf
from PIL import Image

from pmg.domain import PmgError
from pmg.orchestration.run import execute, execute_nested, tracked
from pmg.runs.process_state import restored_state
from pmg.tracking.csv_tracker import CsvTracker
from pmg.tracking.tracker import HIDDEN, Label, Tracking, open_tracking, public_config, run_name, tags
from tracked import Mlflow, last, of_type, tensorboard, text_of, wandb_records


@pytest.fixture(autouse=True)
def restored():
    """Trackers set variables of the environment."""
    with restored_state():
        yield


JOB = """
from pmg.orchestration.launcher import launch
from pmg.orchestration.run import tracked
@tracked
def body(cfg, run):
    run.measure({"x": cfg.seed / 2})
    if cfg.seed == 2:
        raise ValueError("bad job")
    return float(cfg.seed)
launch("train", body)
"""


@pytest.mark.slow
def test_each_job_of_a_sweep_is_its_own_run_which_goes_on_under_its_id(shell, tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    arguments = ["-m", "seed=1,2,3", "run_dir=sweep", "name=seeds", "paths.output_dir=.", "logger=[csv,wandb,mlflow]"]
    done = shell(sys.executable, "job.py", *arguments)
    assert done.returncode == 1
    jobs = [tmp_path / "sweep" / str(job) for job in range(3)]
    found = [wandb_records(job) for job in jobs]
    assert [len(files) for files in found] == [1, 1, 1]
    runs = [of_type(records, "run")[0] for (records,) in found]
    assert len({run["run_id"] for run in runs}) == 3
    assert {run["run_group"] for run in runs} == {"seeds"}
    assert [run["display_name"] for run in runs] == ["sweep/0", "sweep/1", "sweep/2"]
    assert [of_type(records, "exit")[0].get("exit_code", 0) for (records,) in found] == [0, 1, 0]
    assert [last(records, "summary")["x"] for (records,) in found] == [0.5, 1.0, 1.5]
    assert [last(records, "summary").get("objective") for (records,) in found] == [1.0, None, 3.0]
    store = Mlflow(tmp_path)
    assert {name: store.run(name).info.status for name in ("sweep/0", "sweep/1", "sweep/2")} == {
        "sweep/0": "FINISHED", "sweep/1": "FAILED", "sweep/2": "FINISHED",
    }  # fmt: skip

    (tmp_path / "job.py").write_text(JOB.replace("== 2", "== 9"))
    again = shell(sys.executable, "job.py", *arguments)
    assert again.returncode == 0, again.stderr
    first, second = wandb_records(jobs[1])
    assert of_type(first, "run")[0]["run_id"] == of_type(second, "run")[0]["run_id"] == runs[1]["run_id"]
    assert of_type(second, "exit")[0].get("exit_code", 0) == 0
    assert last(second, "summary")["objective"] == 2.0
    assert len(wandb_records(jobs[0])) == 1
    store = Mlflow(tmp_path)
    assert len(store.runs) == 3
    assert store.run("sweep/1").info.status == "FINISHED"
    assert (jobs[1] / "csv" / "version_1").is_dir()


@pytest.fixture
def made(tmp_path):
    """A run's folder with two pictures, a table of them, and a model."""
    for row in range(2):
        Image.fromarray(np.full((8, 8, 3), 99 * row, np.uint8)).save(tmp_path / f"{row}.png")
    (tmp_path / "model" / "deep").mkdir(parents=True)
    (tmp_path / "model" / "deep" / "weights").write_bytes(b"1234")
    return pd.DataFrame({"image": [tmp_path / "0.png", tmp_path / "1.png"], "d_p": [None, 0.5], "method": ["a", "b"]})


def track(folder, table, **loggers):
    """Records one of each kind, by the function that commands use, until the run is stopped."""
    config = {"paths": {"output_dir": str(folder)}, "seed": 3, "logger": loggers, "hf_token": "hf_123"}
    label = Label("abc", run_name(folder / "run", folder), "generate", tags(None, {"data": "looks"}, "generate"))
    with open_tracking(config, label) as tracking:
        tracking.record_metrics({"a/b": 0.25})
        tracking.record_image("grid", folder / "1.png")
        tracking.record_table("samples", table)
        tracking.record_artifact("encoder", "model", folder / "model")
        raise KeyboardInterrupt


def test_files_of_csv_and_tensorboard(tmp_path, made):
    kinds = {"csv": "csv_tracker.CsvTracker", "tensorboard": "tensorboard_tracker.TensorBoardTracker"}
    nodes = {name: {"_target_": f"pmg.tracking.{kind}", "save_dir": str(tmp_path)} for name, kind in kinds.items()}
    with pytest.raises(KeyboardInterrupt):
        track(tmp_path, made, **nodes)
    folder = tmp_path / "csv" / "version_0"
    assert pd.read_csv(folder / "metrics.csv")["a/b"].tolist() == [0.25]
    assert yaml.safe_load((folder / "hparams.yaml").read_text()) == {
        "paths": {"output_dir": str(tmp_path)}, "seed": 3, "hf_token": HIDDEN,
    }  # fmt: skip
    assert pd.read_csv(folder / "samples.csv")["image"].tolist() == ["../../0.png", "../../1.png"]
    listed = pd.read_csv(folder / "artifacts.csv")
    assert listed[["name", "kind", "file", "bytes"]].to_numpy().tolist()[1] == [
        "encoder", "model", "../../model/deep/weights", 4,
    ]  # fmt: skip
    events = tensorboard(tmp_path)
    assert [(e.step, e.value) for e in events.Scalars("a/b")] == [(0, 0.25)]
    assert [picture.step for picture in events.Images("samples")] == [0, 1]
    assert "| 1 | 0.5 | b |" in text_of(events, "samples")
    assert text_of(events, "exit code") == "130"
    assert "hf_123" not in text_of(events, "config")


@pytest.mark.slow
def test_records_of_wandb_and_mlflow(tmp_path, made, monkeypatch):
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    wandb = {"_target_": "pmg.tracking.wandb_tracker.WandbTracker", "save_dir": str(tmp_path), "tags": ["mine"]}
    mlflow = {
        "_target_": "pmg.tracking.mlflow_tracker.MlflowTracker", "store": f"sqlite:///{tmp_path}/mlflow.db",
        "artifacts": str(tmp_path / "artifacts"), "experiment": "toy",
    }  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        track(tmp_path, made, wandb=wandb, mlflow=mlflow)
    (records,) = wandb_records(tmp_path)
    assert of_type(records, "run")[0]["tags"] == ["mine", "data=looks"]
    assert of_type(records, "exit")[0]["exit_code"] == 130
    assert last(records, "config")["hf_token"] == HIDDEN
    assert "hf_123" not in json.dumps(records)
    (model,) = [found for found in of_type(records, "artifact") if found["type"] == "model"]
    (weights,) = model["manifest"]["contents"]
    assert (weights["path"], weights["local_path"]) == ("deep/weights", str(tmp_path / "model" / "deep" / "weights"))
    store = Mlflow(tmp_path)
    run = store.run("run")
    assert run.info.status == "KILLED"
    assert run.data.metrics == {"a/b": 0.25}
    assert {"grid/1.png", "tables/samples/0001.png", "model/encoder/deep/weights"} <= set(store.files(run))
    store.client.delete_experiment(run.info.experiment_id)
    with pytest.raises(PmgError, match="'toy' was deleted: mlflow experiments restore"):
        track(tmp_path, made, mlflow=mlflow)


@pytest.mark.slow
def test_run_of_wandb_is_ended_where_another_logger_cannot_begin(tmp_path):
    loggers = {
        "wandb": {"_target_": "pmg.tracking.wandb_tracker.WandbTracker", "save_dir": str(tmp_path)},
        "broken": {"_target_": "pmg.tracking.csv_tracker.CsvTracker"},
    }
    opening = open_tracking({"logger": loggers}, Label("abc", "run", "train", {}))
    with pytest.raises(TypeError, match="save_dir"), opening:
        pass
    (records,) = wandb_records(tmp_path)
    assert of_type(records, "exit")[0]["exit_code"] == 1


def test_a_tracker_that_cannot_be_closed_leaves_the_others_whole(tmp_path, caplog):
    class Full(CsvTracker):
        def close(self, code):
            raise OSError("No space left on device")

    label = Label("abc", "run", "train", {})
    tracking = Tracking([Full(label, str(tmp_path), "full"), CsvTracker(label, str(tmp_path))])
    tracking[1].log_metrics({"train/total": 1.0}, 7)
    tracking.record_metrics({"objective": 2.0})
    tracking.close(1)
    assert "could not close Full" in caplog.text
    assert pd.read_csv(tmp_path / "csv" / "version_0" / "metrics.csv")["step"].tolist() == [7, 7]  # of the latest


def test_config_is_logged_without_secrets():
    config = {
        "logger": {"mlflow": {"store": "postgresql://me:word@host/db"}},
        "soft_tokens": 4, "api_key": "k", "hub": {"token": "t", "empty_secret": None, "urls": ["http://me:word@host/x"]},
    }  # fmt: skip
    assert public_config(config) == {
        "soft_tokens": 4, "api_key": HIDDEN,
        "hub": {"token": HIDDEN, "empty_secret": None, "urls": [f"http://{HIDDEN}@host/x"]},
    }  # fmt: skip


def test_all_kinds_of_secrets_are_hidden():
    names = ("secret_key", "private_key", "passwd", "credentials", "authorization", "AccessKey")
    assert set(public_config(dict.fromkeys(names, "x")).values()) == {HIDDEN}
    assert public_config({"a": "s3://u:p@ss@bucket/x@y", "tokens": 4}) == {
        "a": f"s3://{HIDDEN}@bucket/x@y",
        "tokens": 4,
    }


def test_labels(tmp_path):
    assert run_name(tmp_path / "outputs" / "demo" / "train", tmp_path / "outputs") == "demo/train"
    assert run_name(tmp_path / "elsewhere" / "x" / "y", tmp_path / "outputs") == "x/y"
    chosen = {"data": "looks", "experiment": None, "hydra/launcher": "basic"}
    assert tags({"pmg_paper": {"a": 1}, "soft": None}, chosen, "generate") == {
        "data": ["looks"],
        "method": ["pmg_paper"],
    }
    assert tags(None, {"data": "looks", "scorer": "tiny", "logger": "csv"}, "train") == {"data": ["looks"]}
    assert tags(None, {}, "train") == {}


@pytest.mark.slow
def test_online_run_that_cannot_begin_says_how_to_stay_offline(pmg, tmp_path):
    alone = {"WANDB_API_KEY": "short", "HOME": str(tmp_path)}
    done = pmg("train", "logger=wandb", "logger.wandb.offline=false", "run_dir=run", **alone)
    assert done.returncode == 1
    assert "wandb can't start a run" in done.stderr
    assert "logger.wandb.offline=true" in done.stderr
    assert "Traceback" not in done.stderr


def test_parts_of_a_run_share_its_trackers(tmp_path):
    csv = {"_target_": "pmg.tracking.csv_tracker.CsvTracker", "save_dir": "${run_dir}"}
    whole = OmegaConf.create(
        {"run_dir": str(tmp_path / "study"), "paths": {"output_dir": "x"}, "logger": {"csv": csv}}
    )
    part = OmegaConf.merge(whole, {"run_dir": str(tmp_path / "study" / "train")})

    @tracked
    def body(cfg, run):
        execute_nested(part, "train", lambda cfg, run: run.measure({"a": 1.0}), run.tracking)
        run.measure({"b": 2.0})
        return 3.0

    execute(whole, "study", body)
    found = pd.read_csv(tmp_path / "study" / "csv" / "version_0" / "metrics.csv")
    assert [found[name].dropna().tolist() for name in ("a", "b", "objective")] == [[1.0], [2.0], [3.0]]
    assert not (tmp_path / "study" / "train" / "csv").exists()


def test_without_a_logger_nothing_is_written(tmp_path):
    with open_tracking({"logger": None}, Label("abc", "run", "train", {})) as tracking:
        assert not tracking
        tracking.record_metrics({"a": 1.0})
        tracking.record_artifact("x", "model", tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []
