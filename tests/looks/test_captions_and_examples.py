"""The data set of looks through the public commands: train, generate, evaluate."""

from __future__ import annotations

import json

import pytest

from looks import FEW_TOPICS


@pytest.mark.slow
@pytest.mark.parametrize("data", ["looks", "look_chats"])
def test_train_generate_evaluate(pmg_here, tmp_path, data):
    users = "data" if data == "looks" else "data.looks"
    options = [
        f"data={data}", f"scenario={data}", "captioner=measured", f"{users}.topics=[{','.join(FEW_TOPICS)}]",
        f"{users}.users.targets=1",
        "split_sizes={train: 8, validation: 3, test: 3}", "language_model=tiny", "generator=tiny", "text_encoder=tiny",
        "scorer=tiny", "method=real", "metrics=distances", "objective.users_per_step=4", "sampling.steps=2",
        "trainer.max_steps=2", "trainer.val_check_interval=1", "sheet_users=3", "paths.output_dir=out",
    ]  # fmt: skip
    for verb, own in (
        ("train", ["run_dir=train"]),
        ("generate", ["run_dir=generate", "train_run=train"]),
        ("evaluate", ["run_dir=evaluate", "generate_run=generate", "results_dir=results"]),
    ):
        done = pmg_here(verb, *options, *own)
        assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "results" / "results.json").read_text())
    assert results["methods"]["pmg_paper"]["lpips_truth"]["n"] == 3
    assert results["methods"]["truth"]["lpips_truth"]["mean"] == pytest.approx(0, abs=1e-6)
    assert {"met", "unseen_region", "unseen_artist"} <= set(str(results).replace("'", " ").split())
