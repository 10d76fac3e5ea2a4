"""What should be tracked is: everything is read back from the files that each tracker wrote."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from omegaconf import OmegaConf
from PIL import Image

from pmg.run import execute, execute_part
from pmg.tracking.opening import HIDDEN, open_tracking, public_config, run_name, tags

ALL = "logger=[csv,tensorboard,wandb,mlflow]"
TINY = [
    ALL, "encoder=tiny", "text_encoder=tiny", "generator=tiny", "scorer=tiny", "name=toy", "trainer=cpu",
    "split_sizes={train: 8, validation: 4, test: 6}", "objective.users_per_step=4", "objective.batches.draws=2",
    "sampling.steps=2", "sheet_users=4", "trainer.max_steps=3", "trainer.val_check_interval=1",
    "trainer.log_every_n_steps=1", "data.topics=[animal-mammal,food-fruit,food-sweet]", "paths.cache_dir=cache",
    "paths.output_dir=.", "train_run=train", "generate_run=generate",
]  # fmt: skip
METHODS = ("none", "keywords", "soft", "pmg", "oracle")


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


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    """A folder in which the three commands ran with every logger at once."""
    place = tmp_path_factory.mktemp("road")
    for verb in ("train", "generate", "evaluate"):
        command = [sys.executable, "-m", f"pmg.commands.{verb}", *TINY, f"run_dir={verb}"]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-2000:]
    return place


@pytest.mark.slow
def test_the_same_numbers_stand_in_every_tracker(road):
    trained = curves(road, "train")
    assert {("train/total", 0), ("train/total", 2), ("val/denoise", 2)} <= trained["csv"].keys()
    stepped = {
        name: {key: v for key, v in part.items() if key[0].startswith(("train/", "val/"))}
        for name, part in trained.items()
    }
    for name in ("wandb", "tensorboard", "mlflow"):
        assert stepped[name] == pytest.approx(stepped["csv"], rel=1e-6), name  # event files hold float32
    for verb in ("train", "generate", "evaluate"):
        whole = curves(road, verb)
        named = {name: {key[0]: v for key, v in part.items()} for name, part in whole.items()}
        assert len(named["csv"]) > 5
        for name in ("wandb", "tensorboard", "mlflow"):
            assert named[name] == pytest.approx(named["csv"], rel=1e-6), (verb, name)
    recorded = json.loads((road / "train" / "metrics.json").read_text())
    assert {v for key, v in trained["wandb"].items() if key[0] == "objective"} == {recorded["result"]}
    results = json.loads((road / "evaluate" / "results.json").read_text())
    judged = {key[0]: v for key, v in curves(road, "evaluate")["wandb"].items()}
    assert judged["results/pmg/lpips_truth"] == pytest.approx(results["arms"]["pmg"]["lpips_truth"]["mean"])
    assert judged["paired/pmg-none/lpips_truth"] == pytest.approx(results["paired"]["pmg-none"]["lpips_truth"]["mean"])


@pytest.mark.slow
def test_wandb_run_is_labelled(road):
    ids = set()
    for verb in ("train", "generate", "evaluate"):
        (records,) = wandb_records(road / verb)
        run = of_type(records, "run")[0]
        ids.add(run["run_id"])
        assert run["run_id"] == json.loads((road / verb / "metrics.json").read_text())["id"]
        assert (run["project"], run["run_group"], run["job_type"], run["display_name"]) == ("pmg", "toy", verb, verb)
        assert {"data=emoji", "encoder=tiny", "generator=tiny", *(f"method={m}" for m in METHODS)} <= set(run["tags"])
        assert of_type(records, "exit")[0].get("exit_code", 0) == 0
        assert last(records, "config")["split_sizes"]["test"] == 6
        assert "logger" not in last(records, "config")
        store = Mlflow(road)
        known = store.run(verb)
        assert known.info.status == "FINISHED"
        assert known.data.params["split_sizes.test"] == "6"
        assert known.data.tags["pmg.id"] == run["run_id"]
        assert known.data.tags["method"] == ",".join(METHODS)
        assert yaml.safe_load((road / verb / "csv/version_0/hparams.yaml").read_text())["split_sizes"]["test"] == 6
        assert "split_sizes:" in text_of(tensorboard(road / verb), "config")
    assert len(ids) == 3
    (records,) = wandb_records(road / "train")
    result = json.loads((road / "train" / "metrics.json").read_text())["result"]
    assert last(records, "summary")["objective"] == pytest.approx(result)


@pytest.mark.slow
def test_images_tables_and_artifacts_stand_in_every_tracker(road):
    shown = 4 * len(METHODS)
    artifacts = {}
    for verb in ("train", "generate", "evaluate"):
        (records,) = wandb_records(road / verb)
        artifacts |= {found["type"]: found for found in of_type(records, "artifact")}
        for row in of_type(records, "history"):
            artifacts |= {k.removesuffix("._type"): row["item"] for k in row["item"] if k.endswith("._type")}
    assert {artifacts[name][f"{name}._type"] for name in ("samples_grid", "contact_sheet")} == {"image-file"}
    assert artifacts["samples"]["samples.nrows"] == shown
    assert artifacts["results"]["results._type"] == artifacts["paired"]["paired._type"] == "table-file"
    pictures = [file["path"] for file in artifacts["run_table"]["manifest"]["contents"]]
    files = {kind: {f["path"] for f in artifacts[kind]["manifest"]["contents"]} for kind in ("model",)}
    assert "diffusion_pytorch_model.safetensors" in files["model"]
    assert pictures
    store = Mlflow(road)
    kept = {verb: store.files(store.run(verb)) for verb in ("train", "generate", "evaluate")}
    assert "model/encoder/diffusion_pytorch_model.safetensors" in kept["train"]
    assert len([path for path in kept["generate"] if path.startswith("tables/samples/")]) == shown
    assert {"samples_grid/samples.png", "tables/samples.csv", "config.yaml"} <= set(kept["generate"])
    assert {"tables/results.csv", "tables/paired.csv", "results/results/results.json"} <= set(kept["evaluate"])
    assert "contact_sheet/contact_sheet.png" in kept["evaluate"]
    events = tensorboard(road / "generate")
    assert len(events.Images("samples")) == shown
    assert len(events.Images("samples_grid")) == 1
    assert "| none |" in text_of(events, "samples")
    assert "diffusion_pytorch_model.safetensors" in text_of(tensorboard(road / "train"), "artifact/encoder")
    folder = road / "generate" / "csv/version_0"
    table = pd.read_csv(folder / "samples.csv")
    assert len(table) == shown
    assert all((folder / path).is_file() for path in table["image"])
    listed = pd.read_csv(road / "train" / "csv/version_0/artifacts.csv")
    assert "../../encoder/diffusion_pytorch_model.safetensors" in set(listed["file"])


@pytest.mark.slow
def test_dashboard_asks_for_what_is_logged(road, root):
    logged = {"trainer/global_step"}
    for verb in ("train", "generate", "evaluate"):
        (records,) = wandb_records(road / verb)
        logged |= {key.partition("._")[0] for key in last(records, "summary")}
        logged |= {key.partition("._")[0] for row in of_type(records, "history") for key in row["item"]}
    assert set(asked(dashboard(root))) - logged == set()


def dashboard(root):
    """The module of experiments/dashboard.py."""
    spec = importlib.util.spec_from_file_location("dashboard", root / "experiments" / "dashboard.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def asked(module):
    """The metrics, pictures and tables that the dashboard's panels show."""
    for section in module.build("me", "pmg", ["seed"]).sections:
        for panel in section.panels:
            for name in ("y", "metrics", "media_keys"):
                value = getattr(panel, name, None) or []
                found = value if isinstance(value, list) else [value]
                yield from (getattr(metric, "name", metric) for metric in found)
            if hasattr(panel, "table_name"):
                yield panel.table_name


def test_dashboard_is_valid(root):
    module = dashboard(root)
    workspace = module.build("me", "pmg", ["seed", "sampling.scales.soft"])
    spec = json.loads(module.checked_spec(workspace))
    sections = {part["name"]: part["panels"] for part in spec["section"]["panelBankConfig"]["sections"]}
    assert list(sections) == ["Training", "Objective", "Pictures", "Results", "Cost"]
    assert [panel["viewType"] for panel in sections["Objective"]].count("Scatter Plot") == 2
    assert {"results/pmg/lpips_truth", "train/total", "samples_grid"} <= set(asked(module))


JOB = """
from pmg.commands.launch import launch
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


class Stopped(Exception):  # noqa: N818
    """Ends a run."""


def track(folder, table, **loggers):
    """One of each kind, through the door that commands use, until the run is stopped."""
    cfg = OmegaConf.create({"paths": {"output_dir": str(folder)}, "seed": 3, "logger": loggers, "hf_token": "hf_123"})
    with open_tracking(cfg, folder / "run", "generate", "abc", {"data": "emoji"}, lambda error: 130) as tracking:
        tracking.record_metrics({"a/b": 0.25})
        tracking.record_image("grid", folder / "1.png")
        tracking.record_table("samples", table)
        tracking.record_artifact("encoder", "model", folder / "model")
        raise Stopped


def test_files_of_csv_and_tensorboard(tmp_path, made):
    kinds = {"csv": "to_csv.CsvTracker", "tensorboard": "to_tensorboard.TensorBoardTracker"}
    nodes = {name: {"_target_": f"pmg.tracking.{kind}", "save_dir": str(tmp_path)} for name, kind in kinds.items()}
    with pytest.raises(Stopped):
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
    wandb = {"_target_": "pmg.tracking.to_wandb.WandbTracker", "save_dir": str(tmp_path), "tags": ["mine"]}
    mlflow = {
        "_target_": "pmg.tracking.to_mlflow.MlflowTracker", "store": f"sqlite:///{tmp_path}/mlflow.db",
        "artifacts": str(tmp_path / "artifacts"), "experiment": "toy",
    }  # fmt: skip
    with pytest.raises(Stopped):
        track(tmp_path, made, wandb=wandb, mlflow=mlflow)
    (records,) = wandb_records(tmp_path)
    assert of_type(records, "run")[0]["tags"] == ["mine", "data=emoji"]
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


@pytest.mark.slow
def test_run_of_wandb_is_ended_where_another_logger_cannot_begin(tmp_path):
    loggers = {
        "wandb": {"_target_": "pmg.tracking.to_wandb.WandbTracker", "save_dir": str(tmp_path)},
        "broken": {"_target_": "pmg.tracking.to_csv.CsvTracker"},
    }
    cfg = OmegaConf.create({"paths": {"output_dir": "."}, "logger": loggers})
    opening = open_tracking(cfg, tmp_path / "run", "train", "abc", {}, lambda error: 1)
    with pytest.raises(TypeError, match="save_dir"), opening:
        pass
    (records,) = wandb_records(tmp_path)
    assert of_type(records, "exit")[0]["exit_code"] == 1


def test_config_is_logged_without_secrets():
    cfg = OmegaConf.create({
        "logger": {"mlflow": {"store": "postgresql://me:word@host/db"}},
        "soft_tokens": 4, "api_key": "k", "hub": {"token": "t", "empty_secret": None, "urls": ["http://me:word@host/x"]},
    })  # fmt: skip
    assert public_config(cfg) == {
        "soft_tokens": 4, "api_key": HIDDEN,
        "hub": {"token": HIDDEN, "empty_secret": None, "urls": [f"http://{HIDDEN}@host/x"]},
    }  # fmt: skip


def test_labels(tmp_path):
    assert run_name(tmp_path / "outputs" / "demo" / "train", tmp_path / "outputs") == "demo/train"
    assert run_name(tmp_path / "elsewhere" / "x" / "y", tmp_path / "outputs") == "x/y"
    chosen = {"data": "emoji", "experiment": None, "hydra/launcher": "basic"}
    assert tags({"pmg": {"a": 1}, "soft": None}, chosen) == {"data": ["emoji"], "method": ["pmg"]}
    assert tags(None, {}) == {}


@pytest.mark.slow
def test_online_run_that_cannot_begin_says_how_to_stay_offline(pmg, tmp_path):
    alone = {"WANDB_API_KEY": "short", "HOME": str(tmp_path)}
    done = pmg("train", "logger=wandb", "logger.wandb.offline=false", "run_dir=run", **alone)
    assert done.returncode == 1
    assert "wandb can't begin a run" in done.stderr
    assert "logger.wandb.offline=true" in done.stderr
    assert "Traceback" not in done.stderr


def test_parts_of_a_run_share_its_trackers(tmp_path):
    csv = {"_target_": "pmg.tracking.to_csv.CsvTracker", "save_dir": "${run_dir}"}
    whole = OmegaConf.create(
        {"run_dir": str(tmp_path / "study"), "paths": {"output_dir": "x"}, "logger": {"csv": csv}}
    )
    part = OmegaConf.merge(whole, {"run_dir": str(tmp_path / "study" / "train")})

    def body(cfg, run):
        execute_part(part, "train", lambda cfg, run: run.measure({"a": 1.0}), run.tracking)
        run.measure({"b": 2.0})
        return 3.0

    execute(whole, "study", body)
    found = pd.read_csv(tmp_path / "study" / "csv" / "version_0" / "metrics.csv")
    assert [found[name].dropna().tolist() for name in ("a", "b", "objective")] == [[1.0], [2.0], [3.0]]
    assert not (tmp_path / "study" / "train" / "csv").exists()


def test_no_logger_costs_nothing(tmp_path):
    with open_tracking(OmegaConf.create({"logger": None}), tmp_path, "train", "abc", {}, lambda error: 1) as tracking:
        assert not tracking
        tracking.record_metrics({"a": 1.0})
        tracking.record_artifact("x", "model", tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []
