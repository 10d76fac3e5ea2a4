"""What should be tracked of the three commands is: read back from the files that each tracker wrote."""

from __future__ import annotations

import json
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from commands import FEW, read_by
from tracked import Mlflow, curves, last, of_type, tensorboard, text_of, wandb_records

ALL = "logger=[csv,tensorboard,wandb,mlflow]"
TINY = [
    ALL, "language_model=tiny", "text_encoder=tiny", "generator=tiny", "scorer=tiny", "name=toy", "trainer=cpu",
    "split_sizes={train: 8, validation: 4, test: 6}", "objective.users_per_step=4", "objective.batches.draws=2",
    "sampling.steps=2", "sheet_users=4", "trainer.max_steps=3", "trainer.val_check_interval=1",
    "trainer.log_every_n_steps=1", "method=[none,counting,keywords,soft,pmg_paper]", *FEW, "paths.cache_dir=cache",
    "paths.output_dir=.", "train_run=train", "generate_run=generate",
]  # fmt: skip
METHODS = ("none", "counting", "keywords", "soft", "pmg_paper")
MODELS = {"data=looks", "language_model=tiny", "preference_encoder=text", "generator=tiny"}
DECIDING = {  # options of groups that decide a command's result, some of them
    "train": MODELS, "generate": MODELS | {f"method={name}" for name in METHODS}, "evaluate": {"metrics=looks"},
}  # fmt: skip


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A folder in which the three commands ran with every logger at once."""
    place = tmp_path_factory.mktemp("tracked")
    for verb in ("train", "generate", "evaluate"):
        command = [sys.executable, "-m", f"pmg.commands.{verb}", *read_by(verb, TINY), f"run_dir={verb}"]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-2000:]
    return place


@pytest.mark.slow
def test_the_same_numbers_stand_in_every_tracker(tracked):
    trained = curves(tracked, "train")
    assert {("train/total", 0), ("train/total", 2), ("val/denoise", 2)} <= trained["csv"].keys()
    stepped = {
        name: {key: v for key, v in part.items() if key[0].startswith(("train/", "val/"))}
        for name, part in trained.items()
    }
    for name in ("wandb", "tensorboard", "mlflow"):
        assert stepped[name] == pytest.approx(stepped["csv"], rel=1e-6), name  # event files hold float32
    for verb in ("train", "generate", "evaluate"):
        whole = curves(tracked, verb)
        named = {name: {key[0]: v for key, v in part.items()} for name, part in whole.items()}
        assert len(named["csv"]) > 5
        for name in ("wandb", "tensorboard", "mlflow"):
            assert named[name] == pytest.approx(named["csv"], rel=1e-6), (verb, name)
    recorded = json.loads((tracked / "train" / "metrics.json").read_text())
    assert {v for key, v in trained["wandb"].items() if key[0] == "objective"} == {recorded["result"]}
    results = json.loads((tracked / "evaluate" / "results.json").read_text())
    judged = {key[0]: v for key, v in curves(tracked, "evaluate")["wandb"].items()}
    assert judged["results/pmg_paper/lpips_truth"] == pytest.approx(
        results["methods"]["pmg_paper"]["lpips_truth"]["mean"]
    )
    assert judged["paired/pmg_paper-none/lpips_truth"] == pytest.approx(
        results["paired"]["pmg_paper-none"]["lpips_truth"]["mean"]
    )


@pytest.mark.slow
def test_wandb_run_is_labelled(tracked):
    ids = set()
    for verb in ("train", "generate", "evaluate"):
        (records,) = wandb_records(tracked / verb)
        run = of_type(records, "run")[0]
        ids.add(run["run_id"])
        assert run["run_id"] == json.loads((tracked / verb / "metrics.json").read_text())["id"]
        assert (run["project"], run["run_group"], run["job_type"], run["display_name"]) == (
            "pmg_paper",
            "toy",
            verb,
            verb,
        )
        assert DECIDING[verb] <= set(run["tags"])
        assert of_type(records, "exit")[0].get("exit_code", 0) == 0
        config = last(records, "config")
        assert config["name"] == "toy"
        assert "logger" not in config
        store = Mlflow(tracked)
        known = store.run(verb)
        assert known.info.status == "FINISHED"
        assert known.data.params["name"] == "toy"
        assert known.data.tags["pmg.id"] == run["run_id"]
        assert known.data.tags.get("method") == (",".join(METHODS) if verb == "generate" else None)
        assert yaml.safe_load((tracked / verb / "csv/version_0/hparams.yaml").read_text())["name"] == "toy"
        assert "name:" in text_of(tensorboard(tracked / verb), "config")
    assert len(ids) == 3
    (records,) = wandb_records(tracked / "train")
    result = json.loads((tracked / "train" / "metrics.json").read_text())["result"]
    assert last(records, "summary")["objective"] == pytest.approx(result)


@pytest.mark.slow
def test_images_tables_and_artifacts_stand_in_every_tracker(tracked):
    shown = 4 * len(METHODS)
    artifacts = {}
    for verb in ("train", "generate", "evaluate"):
        (records,) = wandb_records(tracked / verb)
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
    store = Mlflow(tracked)
    kept = {verb: store.files(store.run(verb)) for verb in ("train", "generate", "evaluate")}
    assert "model/encoder/diffusion_pytorch_model.safetensors" in kept["train"]
    assert len([path for path in kept["generate"] if path.startswith("tables/samples/")]) == shown
    assert {"samples_grid/samples.png", "tables/samples.csv", "config.yaml"} <= set(kept["generate"])
    assert {"tables/results.csv", "tables/paired.csv", "results/results/results.json"} <= set(kept["evaluate"])
    assert "contact_sheet/contact_sheet.png" in kept["evaluate"]
    events = tensorboard(tracked / "generate")
    assert len(events.Images("samples")) == shown
    assert len(events.Images("samples_grid")) == 1
    assert "| none |" in text_of(events, "samples")
    assert "diffusion_pytorch_model.safetensors" in text_of(tensorboard(tracked / "train"), "artifact/encoder")
    folder = tracked / "generate" / "csv/version_0"
    table = pd.read_csv(folder / "samples.csv")
    assert len(table) == shown
    assert all((folder / path).is_file() for path in table["image"])
    listed = pd.read_csv(tracked / "train" / "csv/version_0/artifacts.csv")
    assert "../../encoder/diffusion_pytorch_model.safetensors" in set(listed["file"])


@pytest.fixture
def dashboard(scripts):
    """The module experiments/dashboard.py."""
    import dashboard

    return dashboard


@pytest.mark.slow
def test_dashboard_asks_for_what_is_logged(tracked, dashboard):
    logged = {"trainer/global_step"}
    for verb in ("train", "generate", "evaluate"):
        (records,) = wandb_records(tracked / verb)
        logged |= {key.partition("._")[0] for key in last(records, "summary")}
        logged |= {key.partition("._")[0] for row in of_type(records, "history") for key in row["item"]}
    drawn = {
        key for key in asked(dashboard) if not key.startswith("results/oracle/")
    }  # which wasn't among the methods
    assert drawn - logged == set()


def asked(module):
    """The metrics, pictures and tables that the dashboard's panels show."""
    for section in module.build("me", "pmg_paper", ["seed"]).sections:
        for panel in section.panels:
            for name in ("y", "metrics", "media_keys"):
                value = getattr(panel, name, None) or []
                found = value if isinstance(value, list) else [value]
                yield from (getattr(metric, "name", metric) for metric in found)
            if hasattr(panel, "table_name"):
                yield panel.table_name


def test_dashboard_is_valid(dashboard):
    workspace = dashboard.build("me", "pmg_paper", ["seed", "sampling.scales.soft"])
    spec = json.loads(dashboard.checked_spec(workspace))
    sections = {part["name"]: part["panels"] for part in spec["section"]["panelBankConfig"]["sections"]}
    assert list(sections) == ["Training", "Objective", "Pictures", "Results", "Cost"]
    assert [panel["viewType"] for panel in sections["Objective"]].count("Scatter Plot") == 2
    assert {"results/pmg_paper/lpips_truth", "train/total", "samples_grid"} <= set(asked(dashboard))
