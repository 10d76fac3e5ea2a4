"""Your own users and pictures through the public commands: prepare, train, generate, evaluate."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from shops import write_shop


@pytest.fixture
def shop(tmp_path):
    return write_shop(tmp_path)


@pytest.mark.slow
def test_prepare_train_generate_evaluate(shop, pmg_here):
    prepare = [
        "data=own_files", "source.read.items=shop/items.csv", "source.read.interactions=shop/chosen.csv",
        "source.pictures.size=64", "source.max_missing_pictures=0.1", "paths.data_dir=data", "data.folder=kept/shop",
    ]  # fmt: skip
    done = pmg_here("prepare", *prepare, "run_dir=first")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "data=own_files reads kept/shop from now on" in done.stdout
    assert "'picture file is missing': 2" in done.stdout
    head, *rows = (shop / "shop" / "chosen.csv").read_text().splitlines()
    (shop / "shop" / "unknown.csv").write_text("\n".join([f"{head},action", *(f"{row},gekauft" for row in rows)]))
    failed = pmg_here("prepare", *prepare, "source.read.interactions=shop/unknown.csv", "data.folder=kept/failed")
    assert failed.returncode == 1, failed.stdout
    assert "gekauft" in failed.stderr
    assert (shop / "data" / "prepared.json").read_text().count("kept/shop") == 1
    options = [
        "experiment=real_users", "paths.data_dir=data", "paths.output_dir=out", "language_model=tiny",
        "generator=tiny", "text_encoder=tiny",
        "objective.users_per_step=4", "sampling.steps=2", "trainer.max_steps=2",
        "trainer.val_check_interval=1", "targets.train=3", "sheet_users=3",
    ]  # fmt: skip
    for verb in ("train", "generate", "evaluate"):
        done = pmg_here(verb, *options)
        assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((shop / "out" / "real_users" / "results.json").read_text())
    assert set(results["methods"]["pmg_paper"]) >= {"lpips_truth", "lpips_history", "ssim_truth"}
    assert "style_accuracy" not in results["methods"]["pmg_paper"]
    assert results["methods"]["truth"]["lpips_truth"]["mean"] == pytest.approx(0, abs=1e-6)
    assert {"own", "mismatched"} <= set(results["control"]["pmg_paper"]["lpips_truth"])
    assert (shop / "out" / "real_users" / "contact_sheet.png").stat().st_size > 1000
    done = pmg_here("generate", *options, "method=oracle", "run_dir=oracle")
    assert done.returncode == 1
    assert (
        "preference.true_style needs the label 'look_references', which examples of this data set don't have"
        in done.stderr
    )
    assert "Traceback" not in done.stderr

    assert pmg_here("prepare", *prepare, "run_dir=again").returncode == 0
    done = pmg_here("evaluate", *options, "run_dir=again_judged", "results_dir=again_judged")
    assert done.returncode == 0, "the same data, prepared again, are the same data"
    Image.new("RGB", (80, 60), "red").save(shop / "shop" / "1.png")
    assert pmg_here("prepare", *prepare, "run_dir=changed").returncode == 0
    for verb, told in {
        "train": "holds a run of other values: data.folder.content", "generate": "data.folder.content",
        "evaluate": "was made from other files than are there now: data.folder (kept/shop)",
    }.items():  # fmt: skip
        done = pmg_here(verb, *options, *(["results_dir=elsewhere"] if verb == "evaluate" else []))
        assert done.returncode == 1
        assert told in done.stderr, done.stderr


@pytest.mark.slow
def test_own_pictures_train_a_generator_and_a_scorer(shop, pmg):
    done = pmg(
        "prepare", "data=own_files", "source.read.items=shop/items.csv", "source.read.interactions=shop/chosen.csv",
        "source.pictures.size=64", "source.max_missing_pictures=0.1", "paths.data_dir=data",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    options = ["data=own_files", "paths.data_dir=data", "data.seed=1", "trainer.max_steps=1", "stage.batch_size=4"]
    for stage, own in (
        ("look_autoencoder", []),
        ("look_unet", ["stage.pool.looks=4", "stage.pool.held_out_looks=2"]),
        ("look_scorer", []),
        ("look_tokenizer", []),
    ):
        done = pmg("pretrain", f"stage={stage}", f"run_dir={stage}", *options, *own)
        assert done.returncode == 0, done.stderr[-3000:]
    assert (shop / "look_unet" / "model" / "look_generator" / "style_encoder" / "config.json").is_file()
    done = pmg(
        "pretrain", "stage=look_unet", "run_dir=further", *options, "stage.pool.looks=4",
        "stage.pool.held_out_looks=2", "stage.start=look_unet/model/look_generator",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
