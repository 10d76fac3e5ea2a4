"""One command at a time writes a folder."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pmg.domain import PmgError
from pmg.orchestration.run import execute
from pmg.runs.owned_folders import LOCK, locked
from pmg.runs.process_state import RunFailedError
from pmg.runs.run_folder import written_folders
from runs import run_config as config
from runs import snapshot

HOLD = """
import sys, time
from pathlib import Path
from pmg.runs.owned_folders import locked
with locked([Path(sys.argv[1])], "train"):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock of `tmp_path`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_command_is_refused_in_one_line_and_the_lock_of_a_killed_one_is_not(other, tmp_path, capsys):
    before = snapshot(tmp_path)
    with pytest.raises(RunFailedError):
        execute(config(tmp_path), "train", lambda cfg, run: pytest.fail("the body must not start"))
    assert snapshot(tmp_path) == before
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path} is being written by pmg-train (process {other.pid} on ")
    other.kill()
    other.wait()
    execute(config(tmp_path), "train", lambda cfg, run: None)
    assert not (tmp_path / LOCK).exists()


def test_a_process_may_lock_a_folder_inside_its_own_lock(tmp_path):
    with locked([tmp_path], "study"):
        with locked([tmp_path, tmp_path / "train"], "train"):
            assert (tmp_path / "train" / LOCK).exists()
        assert (tmp_path / LOCK).exists()
        assert not (tmp_path / "train" / LOCK).exists()


def test_a_folder_that_was_made_for_its_lock_is_removed_unless_something_was_written(tmp_path):
    with locked([tmp_path / "nowhere" / "pipeline"], "export"):
        pass
    assert not list(tmp_path.iterdir())
    with locked([tmp_path / "run" / "train"], "train"):
        (tmp_path / "run" / "metrics.json").write_text("{}")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["metrics.json"]


def test_an_error_frees_the_lock(tmp_path):
    for _ in range(2):
        with pytest.raises(ValueError, match="fault"), locked([tmp_path], "train"):
            raise ValueError("fault")


def test_a_folder_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PmgError, match=r"can't write .*file/run"), locked([tmp_path / "file/run"], "train"):
        pass


def test_results_and_data_elsewhere_are_locked_and_not_by_shards():
    values = {"run_dir": "a", "results_dir": "b", "shard.index": None, "source.folder": "c"}
    assert [str(path) for path in written_folders(values, "evaluate")] == ["a", "b"]
    assert [str(path) for path in written_folders(values, "prepare")] == ["a", "c"]
    assert [str(path) for path in written_folders({**values, "shard.index": 0}, "evaluate")] == ["a"]
