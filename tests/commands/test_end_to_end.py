"""Training, generation and evaluation through the public commands, with the real catalogue and tiny models."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from commands import FEW
from pmg.commands.evaluate import body as evaluate
from pmg.commands.generate import body as generate
from pmg.configuration.keys import schema_spec
from pmg.configuration.schemas import find_schemas
from pmg.orchestration.run import execute
from pmg.records.storage import read_images, read_records
from runs import metrics

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "language_model=tiny", "text_encoder=tiny", "generator=tiny", "scorer=tiny",
    "split_sizes={train: 8, validation: 4, test: 6}", "objective.users_per_step=4", "objective.batches.draws=2",
    "sampling.steps=2", "sheet_users=4", "trainer.max_steps=3",
    "trainer.val_check_interval=1", "method=[none,counting,keywords,soft,pmg_paper]", *FEW,
]  # fmt: skip


PLACES = {"train": "a", "generate": "b", "evaluate": "c"}
SHARED = [*TINY, "train_run=a", "generate_run=b", "paths.cache_dir=cache"]


@pytest.mark.slow
def test_train_generate_evaluate(pmg_here, tmp_path):
    for verb, folder in PLACES.items():
        done = pmg_here(verb, *SHARED, f"run_dir={folder}")
        assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((tmp_path / "c" / "results.json").read_text())
    assert {"none", "counting", "keywords", "soft", "pmg_paper", "nearest", "truth", "vae_reconstruction"} <= set(
        results["methods"]
    )
    assert {"mean", "low", "high", "n"} <= set(results["methods"]["pmg_paper"]["lpips_truth"])
    assert results["methods"]["truth"]["lpips_truth"]["mean"] == pytest.approx(0, abs=1e-6)
    assert {"own", "mismatched", "p"} <= set(results["control"]["pmg_paper"]["style_accuracy"])
    assert set(results["groups"]["group"]) == {"met", "unseen_region", "unseen_artist"}
    assert results["metrics"]["lpips_truth"]["higher_is_better"] is False
    assert results["config"]["generate_run"] == "b"
    assert str(ROOT) not in json.dumps(results)
    assert (tmp_path / "c" / "contact_sheet.png").stat().st_size > 1000
    ledger = metrics(tmp_path / "a")["ledger"]
    assert ledger["llm_tokens_computed"] > 0
    assert ledger["llm_tokens_reused"] > 0
    assert ledger["trainable_parameters"] > 0
    # 6 users, 9 methods, 4 candidates, 2 steps, with and without the condition
    assert metrics(tmp_path / "b")["ledger"]["denoiser_evaluations"] == 6 * 9 * 4 * 2 * 2
    assert "contact_sheet.png" in done.stdout

    assert pmg_here("generate", *SHARED, "run_dir=b").returncode == 0
    assert metrics(tmp_path / "b")["ledger"]["denoiser_evaluations"] == 0
    failed = pmg_here("generate", *SHARED, "run_dir=b", "preference_encoder.soft_tokens=3")
    assert failed.returncode == 1
    assert "holds a run of other values: preference_encoder.soft_tokens: 4 -> 3. Name a new" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.slow
def test_study_with_every_baseline_in_one_command(pmg_here, shell, tmp_path):
    """Trains both encoders, runs all methods, is resumed, and is reported."""
    shared = [
        *TINY[:-3],
        *FEW,
        "paths.cache_dir=cache",
        "method=[none,counting,inversion,image_prompt,keywords,soft,pmg_paper]",
        "preference.inversion.steps=2",
    ]
    done = pmg_here("train", *shared, "preference_encoder=image_prompt", "run_dir=prompt")
    assert done.returncode == 0, done.stderr[-2000:]
    study = [*shared, "run_dir=runs/one", "preference.image_prompt.run=prompt"]
    done = pmg_here("study", *study)
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((tmp_path / "runs" / "one" / "results.json").read_text())
    assert {"counting", "inversion", "image_prompt", "pmg_paper", "nearest"} <= set(results["methods"])
    assert "pmg_paper-inversion" in results["paired"]
    assert results["cost"]["train"]["trainable_parameters"] > 0

    started = metrics(tmp_path / "runs" / "one" / "train")["started"]
    assert pmg_here("study", *study).returncode == 0
    assert metrics(tmp_path / "runs" / "one" / "train")["started"] == started

    study = tmp_path / "experiments" / "one" / "study.yaml"
    study.parent.mkdir(parents=True)
    study.write_text("question: does it run?\ncommands: [{run: pmg-study, hours: 0.1}]\ntables: {one: {}}\n")
    (tmp_path / "outputs" / "studies").mkdir(parents=True)
    (tmp_path / "runs").rename(tmp_path / "outputs" / "studies" / "one")
    done = pmg_here("report", "--study", "one")
    assert done.returncode == 0, done.stderr
    assert (study.parent / "figure.png").stat().st_size > 1000
    assert "inversion" in (study.parent / "table.md").read_text()
    (run,) = json.loads((study.parent / "results.json").read_text())["runs"]
    assert run["content"]


EXECUTION = {  # a value of each command's leaves beside the default
    "generate": {"keep_contexts": "false", "logger": "csv", "sheet_users": "1"},
    "evaluate": {"logger": "csv"},
}
# accelerators; compiled models; processes (orchestration/test_processes.py); classes (configuration/test_plugins.py);
# folders and names; what other keys hold
ELSEWHERE = {
    "device", "captioner.device", "compile", "shard.count", "plugins", "name", "run_dir", "work_dir", "results_dir",
    "paths", "language_model.cache_dir", "scorer", "image_encoder", "train_run", "wishes",
}  # fmt: skip


def test_every_key_that_decides_no_result_is_sampled():
    for command, values in EXECUTION.items():
        undecided = {key for key, decides in schema_spec(find_schemas()[command]).items() if not decides}
        assert undecided - ELSEWHERE == values.keys()


@pytest.mark.slow
def test_keys_that_decide_no_result_change_no_image_and_no_verdict(compose, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = ["split_sizes.test=2", "targets.test=1", "sampling.steps=1", "method=[keywords]", "metrics=distances"]
    shared = [*TINY, *sizes, "logger=none", "paths.cache_dir=cache", "generate_run=generate_0"]
    for command, body in (("generate", generate), ("evaluate", evaluate)):
        for number, values in enumerate(({}, EXECUTION[command])):
            given = [*shared, *(f"{key}={value}" for key, value in values.items()), f"run_dir={command}_{number}"]
            execute(compose(command, *given), command, body)
    one, other = (read_records(f"generate_{number}") for number in (0, 1))
    assert one == other
    torch.testing.assert_close(read_images("generate_0", one), read_images("generate_1", other), rtol=0, atol=0)
    one, other = (pd.read_parquet(tmp_path / f"evaluate_{number}" / "rows.parquet") for number in (0, 1))
    pd.testing.assert_frame_equal(one, other)
