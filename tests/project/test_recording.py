"""What is recorded of studies: pages with tables, and the commands that draw and judge them anew."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

import pmg
from pmg.domain import PmgError
from pmg.reporting.studies import Command, Study, StudyTable, read_as
from pmg.reporting.study_pages import copy_results, format_interval, to_markdown_table, write_study
from pmg.runs.content import digest_path

ROOT = Path(__file__).resolve().parents[2]
PAGE = "# study\n\n<!-- study-table -->\nold\n<!-- end of study-table -->\n"


@pytest.fixture
def folder(tmp_path):
    """The folder of a study with a page."""
    path = tmp_path / "experiments" / "study"
    path.mkdir(parents=True)
    (path / "README.md").write_text(PAGE)
    return path


@pytest.fixture
def recording(scripts):
    """The module experiments/record.py."""
    import record

    return record


def write_run(folder):
    """Results of a finished run."""
    folder.mkdir()
    for name in ("results.json", "rows.parquet"):
        (folder / name).write_text("{}")
    (folder / "table.md").write_text("| new |\n")
    return folder


def test_results_are_copied_and_the_page_is_filled(folder, tmp_path):
    copy_results(write_run(tmp_path / "run"), folder, "study")
    assert {path.name for path in folder.iterdir()} == {"README.md", "results.json", "rows.parquet", "table.md"}
    assert (folder / "README.md").read_text() == PAGE.replace("old", "| new |")


def test_a_study_without_a_page_is_refused_and_no_folder_is_made(tmp_path):
    with pytest.raises(PmgError, match=r"studdy/README\.md is missing"):
        copy_results(write_run(tmp_path / "run"), tmp_path / "studdy", "studdy")
    assert not (tmp_path / "studdy").exists()


@pytest.mark.parametrize("missing", ["rows.parquet", "table.md"])
def test_a_run_without_results_is_refused_before_anything_is_copied(folder, tmp_path, missing):
    (write_run(tmp_path / "run") / missing).unlink()
    with pytest.raises(PmgError, match=f"has no {missing}. Run the study first: make study"):
        copy_results(tmp_path / "run", folder, "study")
    assert {path.name for path in folder.iterdir()} == {"README.md"}


def test_a_page_without_markers_is_refused_before_anything_is_copied(folder, tmp_path):
    (folder / "README.md").write_text("# study\n")
    with pytest.raises(PmgError, match="no markers for a table: 'study'"):
        copy_results(write_run(tmp_path / "run"), folder, "study")
    assert {path.name for path in folder.iterdir()} == {"README.md"}


def test_results_table_and_page_of_a_study_are_written_together(folder, tmp_path):
    write_study(folder, "study", {"a": 1}, "| new |\n")
    assert json.loads((folder / "results.json").read_text()) == {"a": 1}
    assert (folder / "table.md").read_text() in (folder / "README.md").read_text()
    write_study(tmp_path / "trial", "study", {}, "")
    assert {path.name for path in (tmp_path / "trial").iterdir()} == {"results.json", "table.md"}


def test_numbers_in_tables_have_true_minus_signs():
    shown = format_interval({"mean": -0.25, "low": -0.5, "high": 0.125}, "+")
    assert shown == "\N{MINUS SIGN}0.250 [\N{MINUS SIGN}0.500, +0.125]"
    assert to_markdown_table(["a", "b", "c"], [["x", "y", shown]], 2).splitlines()[1:] == [
        "|---|---|---:|", f"| x | y | {shown} |",
    ]  # fmt: skip


def settings_of(recording):
    """Two trainings, of which one reads the other."""
    first, second = Command("pmg-train a", 1.0), Command("pmg-train b", 2.0, toy=None)
    trainings = {"first": recording.Training([first]), "second": recording.Training([second], after=["first"])}
    return recording.Settings(trainings, ["trainer.max_steps=2", "sampling.steps=2", "hydra.job.num=0"], {})


def commands(stages):
    return [stage.command for stage in stages]


def test_a_training_is_run_once_before_all_that_reads_it(recording):
    study = Study("?", ["second"], [Command("pmg-study experiment=x", 1.0)], {"x": StudyTable()})
    other = Study("?", ["first"], [Command("python y.py", 1.0)])
    found = list(recording.plan({"x": study, "y": other}, settings_of(recording), ["a=[1, 2]"], toy=False, named=True))
    assert commands(found) == [
        "pmg-train a 'a=[1, 2]'",
        "pmg-train b 'a=[1, 2]'",
        "pmg-study experiment=x 'a=[1, 2]'",
        "pmg-report --study x",
        "python y.py",
    ]
    assert [stage.trains for stage in found] == [True, True, False, False, False]


def test_toy_length_adds_a_studys_own_settings_and_records_nothing(recording):
    study = Study(
        "?", ["second"], [Command("pmg-study a", 1.0, toy="b=1"), Command("python z.py", 1.0, toy=None)],
        {"x": StudyTable()}, toy=["c=2"],
    )  # fmt: skip
    found = recording.plan({"x": study}, settings_of(recording), ["seed=1"], toy=True, named=True)
    assert commands(found) == [
        "pmg-train a seed=1 trainer.max_steps=2 hydra.job.num=0",
        "pmg-study a seed=1 trainer.max_steps=2 sampling.steps=2 hydra.job.num=0 c=2 b=1",
        "pmg-report --study x --into $PMG_OUTPUTS/tables",
    ]  # fmt: skip


def test_what_needs_downloads_is_run_for_a_study_by_name_alone(recording):
    study = Study("?", [], [Command("pmg-prepare data=films", 1.0, left_out="downloads")], {"x": StudyTable()})
    settings = settings_of(recording)
    assert commands(recording.plan({"x": study}, settings, [], toy=False, named=False)) == []
    named = recording.plan({"x": study}, settings, [], toy=False, named=True)
    assert commands(named) == ["pmg-prepare data=films", "pmg-report --study x"]


def test_a_finished_command_is_not_repeated_and_one_that_failed_is(recording, tmp_path):
    commands = [f"echo one >> {tmp_path}/ran", f"echo two >> {tmp_path}/ran; test -e {tmp_path}/there"]
    stages = [recording.Stage("x", command, 0.0, False) for command in commands]
    with pytest.raises(PmgError, match="failed with exit code 1"):
        recording.run_stages(stages, tmp_path)
    (tmp_path / "there").touch()
    recording.run_stages(stages, tmp_path)
    recording.run_stages(stages, tmp_path)
    assert (tmp_path / "ran").read_text().split() == ["one", "two", "two"]


def test_runs_of_other_weights_are_not_continued(recording, tmp_path, monkeypatch):
    recording.run_stages([], tmp_path)
    monkeypatch.setattr(recording, "digest_all", lambda: {"look_judge": "other"})
    with pytest.raises(PmgError, match=r"is of other weights or data: look_judge\. Name another folder"):
        recording.run_stages([], tmp_path)


def test_results_are_stale_when_a_digest_of_what_they_read_differs(recording):
    place = "<assets_dir>/look_scorer"
    now = digest_path(ROOT / "assets" / "look_scorer")
    runs = [{"config": {}, "content": {place: digest}} for digest in (now, "before")]
    assert recording.describe_state({"runs": runs[:1]}) == "current, by its digests"
    assert recording.describe_state({"runs": runs}) == f"stale: {place} changed"
    settings = {"scorer.folder": place, "scorer.folder.content": "before"}
    assert recording.describe_state({"settings": settings}) == f"stale: {place} changed"


def test_results_without_digests_are_compared_by_their_revision(recording, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = {"scorer": {"folder": "<assets_dir>/look_scorer"}}
    if subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, check=False).returncode:
        pytest.skip("needs a git repository")
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, check=True, text=True).stdout.strip()
    state = recording.describe_state({"runs": [{"config": config, "revision": head}]})
    assert state == "current, by its revisions"
    unknown = recording.describe_state({"runs": [{"config": config, "revision": "0" * 40}]})
    assert unknown == "unknown: no digests, and no revision 00000000 in this repository"


def test_an_interrupted_command_may_save_before_the_recording_ends(tmp_path):
    """Ctrl-C reaches the command, which is waited for, and the same command line runs it again."""
    experiments = tmp_path / "experiments"
    (experiments / "mine").mkdir(parents=True)
    (experiments / "record.yaml").write_text("{trainings: {}, toy: [], left_out: {}}\n")
    script = tmp_path / "slow.py"
    script.write_text(
        "import pathlib, time\n"
        "done = pathlib.Path('saved').exists()\n"
        "try:\n    pathlib.Path('begun').touch()\n    done or time.sleep(60)\n"
        "except KeyboardInterrupt:\n    time.sleep(0.5)\n    pathlib.Path('saved').touch()\n    raise\n"
    )
    study = "question: does it end?\ncommands: [{run: python slow.py, hours: 0.1}]\n"
    (experiments / "mine" / "study.yaml").write_text(study)
    line = [sys.executable, ROOT / "experiments" / "record.py", "mine"]
    process = subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; give the same command again" in errors
    assert (tmp_path / "saved").exists()
    assert subprocess.run(line, cwd=tmp_path, check=False).returncode == 0
    (done,) = json.loads((tmp_path / "outputs" / "record.json").read_text())["done"].values()
    assert done["command"] == "python slow.py"


def test_the_settings_of_recording_name_every_training_of_a_study(recording):
    settings = read_as(recording.Settings, ROOT / "experiments" / "record.yaml")
    studies = [read_as(Study, path) for path in (ROOT / "experiments").glob("*/study.yaml")]
    needed = {name for study in studies for name in study.trainings}
    needed |= {name for training in settings.trainings.values() for name in training.after}
    assert needed == settings.trainings.keys()


def test_commands_at_toy_length_compose(recording):
    """With the first of values that a command sweeps over."""
    settings = read_as(recording.Settings, ROOT / "experiments" / "record.yaml")
    studies = {path.parent.name: read_as(Study, path) for path in (ROOT / "experiments").glob("*/study.yaml")}
    composed = []
    for stage in recording.plan(studies, settings, [], toy=True, named=False):
        program, *words = shlex.split(stage.command)
        if program.startswith("pmg-") and program != "pmg-report":
            parsed = OverridesParser.create().parse_overrides([one for one in words if not one.startswith("hydra.")])
            swept = [one for one in parsed if one.is_sweep_override()]
            first = [f"{one.key_or_group}={next(one.sweep_string_iterator())}" for one in swept]
            fixed = [one.input_line for one in parsed if one not in swept]
            pmg.compose(program.removeprefix("pmg-"), [*fixed, *first])
            composed.append(program)
    assert {"pmg-train", "pmg-study"} <= set(composed)
