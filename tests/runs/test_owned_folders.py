"""Nobody's files are overwritten: a command writes into a folder that is new, empty, or its own."""

from __future__ import annotations

import re

import pytest

from pmg.domain import PmgError
from pmg.orchestration.run import execute
from pmg.runs.owned_folders import claim, refuse_assets, refuse_cache, refuse_foreign, refuse_sweep
from pmg.runs.process_state import RunFailedError
from runs import run_config, snapshot, write_run

MINE, OTHER = {"seed": 0}, {"seed": 1}


def refuse(folder, command="evaluate", identity=MINE):
    refuse_foreign([folder / "run", folder / "results"], folder / "run", command, identity, None)


@pytest.fixture
def place(tmp_path):
    (tmp_path / "results").mkdir()
    return tmp_path


def test_new_empty_and_own_folders_are_written(place):
    refuse(place)
    (place / "results" / "another run").mkdir()
    (place / "results" / ".DS_Store").touch()
    (place / "results" / "evaluate.log").write_text("[2026-01-01 00:00:00,000][pmg][INFO] pmg-evaluate of pmg\n")
    refuse(place)
    claim([place / "results"], place / "elsewhere", "evaluate", MINE)
    (place / "results" / "results.json").touch()
    refuse(place)


@pytest.mark.parametrize("name", ["README.md", ".env", "train.log"])
def test_files_of_others_are_refused(place, name):
    (place / "results" / name).write_text("my project")
    with pytest.raises(PmgError, match=rf"results holds files that aren't pmg's, e\.g\. {re.escape(name)}"):
        refuse(place)


def test_a_file_in_the_place_of_a_folder_is_refused(place):
    (place / "file").touch()
    with pytest.raises(PmgError, match="file is a file; name a folder"):
        refuse_foreign([place / "file"], place / "run", "pretrain", MINE, None)


def test_a_run_whose_shards_were_there_before_it_is_not_refused(place):
    write_run(place / "run" / "shards" / "1", "generate")
    refuse_foreign([place / "run"], place / "run", "generate", MINE, None)


def test_folders_of_others_are_refused_and_folders_of_runs_are_not(place):
    write_run(place / "results" / "sweep" / "0", "train")
    refuse(place)
    with pytest.raises(PmgError, match=r"results holds folders of runs, e\.g\. sweep; name a new one for this run"):
        refuse_foreign([place / "results"], place / "results", "evaluate", MINE, None)
    (place / "results" / "src" / "inner").mkdir(parents=True)
    refuse(place)
    (place / "results" / "src" / "inner" / "code.py").touch()
    with pytest.raises(PmgError, match=r"results holds files that aren't pmg's, e\.g\. src"):
        refuse(place)


def test_folders_of_another_command_or_run_are_refused(place):
    claim([place / "results"], place, "prepare", MINE)
    with pytest.raises(PmgError, match="results belongs to pmg-prepare"):
        refuse(place)
    claim([place / "results"], place / "elsewhere", "evaluate", OTHER)
    refuse(place)  # whose results aren't finished
    (place / "results" / "results.json").touch()
    with pytest.raises(PmgError, match="results holds results of another run of pmg-evaluate"):
        refuse(place)
    claim([place / "results"], place / "run", "evaluate", OTHER)
    refuse(place)  # the same run, with more methods than before
    write_run(place / "results", "train")
    with pytest.raises(PmgError, match="results is the folder of a run"):
        refuse(place)


def test_folders_inside_the_assets_are_refused_however_they_are_named(root, tmp_path, monkeypatch):
    for folder in (root / "assets", root / "assets" / "look_generator" / "unet"):
        with pytest.raises(PmgError, match="lies in the assets, which only into=assets replaces"):
            refuse_assets(folder, None)
    (tmp_path / "link").symlink_to(root / "assets")
    with pytest.raises(PmgError, match="lies in the assets"):
        refuse_assets(tmp_path / "link" / "lpips", None)
    monkeypatch.setenv("PMG_ASSETS", str(tmp_path / "others"))
    with pytest.raises(PmgError, match="lies in the assets"):
        refuse_assets(tmp_path / "others" / "lpips", None)
    with pytest.raises(PmgError, match="lies in the assets"):
        refuse_assets(tmp_path / "third", str(tmp_path / "third"))
    refuse_assets(tmp_path / "elsewhere", None)


@pytest.mark.parametrize("run_dir", ["", "project"])
def test_nothing_is_written_into_what_is_not_the_runs(tmp_path, monkeypatch, capsys, run_dir):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project").mkdir()
    for folder in (tmp_path, tmp_path / "project"):
        (folder / "config.yaml").write_text("mine: true")
    before = snapshot(tmp_path)
    with pytest.raises(RunFailedError):
        execute(run_config(run_dir), "train", lambda cfg, run: run.begin())
    assert snapshot(tmp_path) == before
    told = "project holds files that aren't pmg's, e.g. config.yaml" if run_dir else "run_dir is empty: name a folder"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"paths": {"cache_dir": "file/cache"}}, "paths.cache_dir=file/cache: file is a file; name a folder"),
        ({"rate": float("inf")}, "rate must be a finite number, got inf"),
    ],
)
def test_a_config_that_cannot_run_is_refused_before_a_folder_is_made(tmp_path, monkeypatch, capsys, values, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(RunFailedError):
        execute(run_config("run", **values), "train", lambda cfg, run: pytest.fail("the body must not start"))
    assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_file_of_any_content_makes_no_folder_a_runs(place):
    (place / "results" / "src").mkdir()
    (place / "results" / "src" / "metrics.json").write_text('{"loss": 1}')
    with pytest.raises(PmgError, match=r"results holds files that aren't pmg's, e\.g\. src"):
        refuse(place)


def test_caches_lie_in_folders_of_caches(root, tmp_path):
    for name in ("contexts", "3f", "digests.json", "models"):
        (tmp_path / "cache" / name).mkdir(parents=True)
    refuse_cache("paths.cache_dir", str(tmp_path / "cache"), None)
    refuse_cache("paths.cache_dir", str(tmp_path / "new"), None)
    (tmp_path / "cache" / "setup.py").touch()
    with pytest.raises(PmgError, match=r"paths.cache_dir=.*holds something else than caches, e\.g\. setup\.py"):
        refuse_cache("paths.cache_dir", str(tmp_path / "cache"), None)
    with pytest.raises(PmgError, match="lies in the assets"):
        refuse_cache("paths.cache_dir", str(root / "assets"), None)


def test_a_sweep_has_a_folder_of_its_own(tmp_path):
    refuse_sweep(tmp_path / "new")
    write_run(tmp_path / "sweep" / "0", "train")
    (tmp_path / "sweep" / "multirun.yaml").touch()
    refuse_sweep(tmp_path / "sweep")
    with pytest.raises(PmgError, match="0 is the folder of a run; name another one for the sweep"):
        refuse_sweep(tmp_path / "sweep" / "0")
    (tmp_path / "sweep" / "README.md").touch()
    with pytest.raises(PmgError, match=r"holds files that aren't pmg's, e\.g\. README\.md"):
        refuse_sweep(tmp_path / "sweep")
