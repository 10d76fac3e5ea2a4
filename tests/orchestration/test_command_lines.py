"""The command that is printed at the end of another continues its run, or resumes it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from pmg.configuration.instantiate import to_plain
from pmg.configuration.trees import leaves
from pmg.orchestration.command_lines import next_command, override, resume_command
from runs import write_run


@pytest.mark.parametrize(
    ("command", "overrides", "expected"),
    [
        ("train", "experiment=demo_smoke", "pmg-generate work_dir=outputs/demo_smoke"),
        (
            "train",
            "experiment=demo_smoke trainer.max_steps=9 seed=1 device=cpu logger=none run_dir=outputs/n8",
            "pmg-generate train_run=outputs/n8 device=cpu logger=none",
        ),
        (
            "generate",
            "experiment=demo_smoke train_run=outputs/n8 method=pmg_paper run_dir=outputs/n8_made",
            "pmg-evaluate generate_run=outputs/n8_made",
        ),
        ("generate", "work_dir=outputs/mine", "pmg-evaluate work_dir=outputs/mine"),
        ("generate", "experiment=demo_smoke shard.index=0 shard.count=2", None),
        ("generate", "experiment=chat_stickers", None),
        ("evaluate", "experiment=demo_smoke", "pmg-report outputs/demo_smoke"),
        ("evaluate", "generate_run=made run_dir=outputs/judged", "pmg-report outputs/judged"),
        ("study", "experiment=prefix run_dir=outputs/one", "pmg-report outputs/one"),
        (
            "prepare",
            "data=own_files data.folder=data/shop source.read.items=items.csv source.read.interactions=sales.csv",
            "pmg-train experiment=real_users data=own_files data.folder=data/shop",
        ),
        ("export", "experiment=demo_smoke folder=outputs/pipeline", "pmg-app pipeline=outputs/pipeline"),
        ("export", "experiment=demo_smoke", "pmg-app pipeline=outputs/demo_smoke/train/pipeline"),
    ],
)
def test_next_command_keeps_what_it_reads_and_names_the_run(compose, command, overrides, expected):
    given = overrides.split()
    cfg = compose(command, "paths.output_dir=outputs", *given)
    if cfg.run_dir.endswith("/run"):
        cfg.run_dir = f"{cfg.get('work_dir', 'outputs')}/{command}"
    assert next_command(command, dict(leaves(to_plain(cfg))), given) == expected


@pytest.mark.parametrize("option", [["--config-dir", "mine"], ["-cd", "mine"], ["--config-dir=mine"]], ids=" ".join)
def test_the_folder_of_own_configs_is_kept(compose, monkeypatch, option):
    monkeypatch.setattr("sys.argv", ["pmg-train", *option, "seed=1"])
    assert resume_command("train", Path("run"), ["seed=1", "run_dir=old"]) == (
        "pmg-train --config-dir mine seed=1 run_dir=run"
    )
    cfg = compose("train")
    assert (
        next_command("train", dict(leaves(to_plain(cfg))), ["seed=1", "experiment=mine"])
        == f"pmg-generate --config-dir mine train_run={cfg.run_dir} experiment=mine"
    )


@pytest.mark.parametrize(
    "folder",
    ["out/sees=both,seed=0", "run (2)", "it's", "a\\'b", "plain/run-1", "end\\", "{x}", "café", "~/x", "2024", "null"],
)
def test_folders_of_any_name_can_be_given_again(folder):
    (given,) = OverridesParser.create().parse_overrides([override("run_dir", folder)])
    assert given.value() == folder
    assert shlex.split(resume_command("train", Path(folder), []))[1:] == [override("run_dir", Path(folder))]


def test_a_job_of_a_sweep_is_resumed_as_one_run(monkeypatch):
    monkeypatch.setattr("sys.argv", ["pmg-study", "hydra.mode=RUN"])
    assert resume_command("study", Path("run"), ["seed=1"]) == "pmg-study hydra.mode=RUN seed=1 run_dir=run"
    monkeypatch.setattr("sys.argv", ["pmg-study"])
    assert resume_command("study", Path("run"), ["seed=1"]) == "pmg-study seed=1 run_dir=run"


def test_an_exported_pipeline_is_tried_out_on_its_own_data(tmp_path):
    write_run(tmp_path / "train", choices={"data": "own_files"}, config={"data.folder": "data/mugs"})
    values = {"folder": "pipeline", "train_run": str(tmp_path / "train")}
    assert next_command("export", values, []) == "pmg-app pipeline=pipeline data=own_files data.folder=data/mugs"
    write_run(tmp_path / "train", choices={"data": "looks"}, config={"data.folder": "assets/drawings"})
    assert next_command("export", values, []) == "pmg-app pipeline=pipeline"
