"""Several processes make what one makes: training, pictures, verdicts; and none is left behind when something ends."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from commands import read_by
from interrupts import STUDY, finish, interrupt, made, start
from launchers import LAUNCHERS, launched_by
from pmg.runs.finished_training import TrainingRun
from pmg.runs.process_state import log_file
from pmg.runs.run_folder import TRAINED
from runs import metrics

pytestmark = pytest.mark.slow

# plain gradient steps: Adam divides a gradient by its size, and where that is nearly 0, rounding decides the step
EXACT = ["trainer.precision=32-true", "objective=contrast", "objective.module.ema_decay=0.9", "optimizer=sgd"]
TOGETHER = ["trainer=ddp", "trainer.devices=2"]
CPU = "trainer.accelerator=cpu"
SIGN = "csv/version_0/metrics.csv"


def train(place, folder, *options):
    others = [option for option in STUDY if option != "trainer=cpu"]
    return start(place, "train", [*others, CPU, *EXACT, *options, f"run_dir={folder}"])


def curve(folder):
    """Every logged value in its order (after an interruption Lightning counts rows from one on, so not by step)."""
    logged = pd.concat([pd.read_csv(path) for path in sorted(folder.glob("csv/version_*/metrics.csv"))])
    return {
        name: torch.tensor(logged[name].dropna().tolist())
        for name in logged.columns
        if name.startswith(("train/", "val/"))
    }


def succeed(process):
    stderr = finish(process)
    assert process.returncode == 0, stderr[-2000:]
    return stderr


def close(one, other):
    """Whether two trainings went the same way."""
    torch.testing.assert_close(curve(one), curve(other), rtol=1e-4, atol=1e-5)
    files = [folder / "encoder" / "diffusion_pytorch_model.safetensors" for folder in (one, other)]
    first, second = map(load_file, files)
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-4, atol=1e-6)


def descendants(pid):
    """Processes that `pid` started, and those that they started."""
    parents = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as file:
                parents[int(entry)] = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def ranks(pid):
    """The processes among them that train (spawn's resource tracker is one that doesn't)."""
    told = {child: _command(child) for child in descendants(pid)}
    return sorted(child for child, command in told.items() if "spawn_main" in command)


def _command(pid):
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read()
    except OSError:
        return ""


def left(pids, within_s=30):
    """Those of some processes that haven't ended after a while (spawn's resource tracker ends after its parent)."""
    deadline = time.monotonic() + within_s
    while (still := [pid for pid in pids if os.path.exists(f"/proc/{pid}")]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return still


def wait_for(sign, process):
    while process.poll() is None and not (sign.exists() and sign.stat().st_size):
        time.sleep(0.005)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A training of one process, with what comes after it."""
    place = tmp_path_factory.mktemp("alone")
    succeed(train(place, "train"))
    for verb in ("generate", "evaluate"):
        succeed(start(place, verb, [*STUDY, *EXACT, f"run_dir={verb}"]))
    return place


@pytest.mark.parametrize("trainer", ["ddp", pytest.param("fsdp", marks=pytest.mark.ci)])
def test_two_processes_train_as_one_does(alone, tmp_path, trainer):
    stderr = succeed(train(tmp_path, "train", f"trainer={trainer}", "trainer.devices=2"))
    assert "rank 1" not in stderr.lower()
    folder = tmp_path / "train"
    close(folder, alone / "train")
    assert [path.name for path in folder.glob("csv/*")] == ["version_0"]  # one process writes
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()].count("train") == 1
    facts, other = metrics(folder), metrics(alone / "train")
    assert facts["status"] == "completed"
    assert facts["identity"] == other["identity"]
    assert TrainingRun.open(folder).weights == facts["made"][TRAINED]
    assert facts["ledger"]["trainable_parameters"] == other["ledger"]["trainable_parameters"]
    assert facts["metrics"].keys() == other["metrics"].keys()


@pytest.mark.parametrize(
    ("first", "second"),
    [pytest.param(TOGETHER, [], marks=pytest.mark.ci, id="2 then 1"), pytest.param([], TOGETHER, id="1 then 2")],
)
def test_an_interrupted_training_goes_on_in_another_number_of_processes(alone, tmp_path, first, second):
    folder = tmp_path / "train"
    process = train(tmp_path, "train", *first)
    wait_for(folder / SIGN, process)
    started = descendants(process.pid)
    stderr = interrupt(process, folder / SIGN)
    assert process.returncode == 130, stderr[-2000:]
    assert "interrupted; resume with: pmg-train" in stderr
    assert "Traceback" not in stderr
    assert metrics(folder)["status"] == "interrupted"
    assert not left(started)
    succeed(train(tmp_path, "train", *second))
    assert pd.read_csv(folder / "csv/version_1/metrics.csv")["step"].min() > 0
    close(folder, alone / "train")


def test_a_killed_process_ends_all_with_one_line(tmp_path):
    folder = tmp_path / "train"
    process = train(tmp_path, "train", *TOGETHER, "trainer.max_steps=100000")
    wait_for(folder / SIGN, process)
    started = descendants(process.pid)
    os.kill(ranks(process.pid)[-1], signal.SIGKILL)
    stderr = finish(process)
    assert process.returncode == 1
    (line,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert "process 1 of 2 was killed by SIGKILL" in line
    assert metrics(folder)["status"] == "failed"
    assert not left(started)


def test_a_killed_command_leaves_no_process(tmp_path):
    process = train(tmp_path, "train", *TOGETHER, "trainer.max_steps=100000")
    wait_for(tmp_path / "train" / SIGN, process)
    started = descendants(process.pid)
    process.kill()
    finish(process)
    assert not left(started, within_s=120)


@pytest.mark.ci
def test_shards_make_the_same_pictures_and_verdicts(alone, tmp_path):
    (tmp_path / "train").symlink_to(alone / "train")
    options = [*STUDY, *EXACT, "shard.count=2"]
    # one shard by a launcher, the other by the command that merges
    succeed(start(tmp_path, "generate", [*options, "shard.index=1", "run_dir=generate/shards/1"]))
    begun = metrics(tmp_path / "generate/shards/1")["started"]
    succeed(start(tmp_path, "generate", [*options, "run_dir=generate"]))
    assert metrics(tmp_path / "generate/shards/1")["started"] == begun
    lines = [(place / "generate/records.jsonl").read_text() for place in (tmp_path, alone)]
    assert lines[0] == lines[1]
    succeed(start(tmp_path, "evaluate", [*options, "run_dir=evaluate"]))
    for verb in ("generate", "evaluate"):
        merged = made(tmp_path / verb)
        kept = {name: value for name, value in merged.items() if not name.startswith("shards/")}
        expected = made(alone / verb)
        assert kept == expected
        assert len(merged) > len(kept)
    assert metrics(tmp_path / "generate")["ledger"]["images"] == metrics(alone / "generate")["ledger"]["images"]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_shards_of_a_launcher_merge_to_the_same(alone, tmp_path, launcher):
    (tmp_path / "train").symlink_to(alone / "train")
    options = [*STUDY, *EXACT, "shard.count=2"]
    sharded = ["shard.index=0,1", "run_dir=generate/shards", "hydra.sweep.subdir=${shard.index}"]
    succeed(start(tmp_path, "generate", ["-m", *launched_by(launcher), *options, *sharded]))
    begun = [metrics(tmp_path / f"generate/shards/{index}")["started"] for index in (0, 1)]
    succeed(start(tmp_path, "generate", [*options, "run_dir=generate"]))
    assert begun == [metrics(tmp_path / f"generate/shards/{index}")["started"] for index in (0, 1)]
    merged = {name: value for name, value in made(tmp_path / "generate").items() if not name.startswith("shards/")}
    assert merged == made(alone / "generate")


def test_each_part_of_a_study_runs_in_processes(tmp_path):
    places = ("train_run=", "generate_run=", "trainer=cpu")
    options = [option for option in STUDY if not option.startswith(places)]
    succeed(start(tmp_path, "study", [*options, *EXACT, *TOGETHER, CPU, "shard.count=2", "run_dir=study"]))
    folder = tmp_path / "study"
    assert {
        metrics(place)["status"] for place in (folder, *(folder / n for n in ("train", "generate", "evaluate")))
    } == {"completed"}
    assert (folder / "results.json").exists()


def test_processes_that_torchrun_started_train_as_one_does(alone, tmp_path):
    others = [option for option in STUDY if option != "trainer=cpu"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pmg.commands.train"]
    command = [sys.executable, *launcher, *read_by("train", others), *EXACT, *TOGETHER, CPU, "run_dir=train"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    close(tmp_path / "train", alone / "train")
    assert metrics(tmp_path / "train")["status"] == "completed"
    assert [path.name for path in (tmp_path / "train").glob("csv/*")] == ["version_0"]


def test_a_dead_shard_costs_its_own_work_alone(alone, tmp_path):
    (tmp_path / "train").symlink_to(alone / "train")
    options = [*STUDY, *EXACT, "shard.count=2", "run_dir=generate"]
    process = start(tmp_path, "generate", options)
    folder = tmp_path / "generate/shards"
    wait_for(folder / "1/config.yaml", process)
    victim = next(pid for pid in ranks(process.pid) if _opens(pid, folder / "1"))
    os.kill(victim, signal.SIGKILL)
    stderr = finish(process)
    assert process.returncode == 1
    assert "1 of 2 shards failed; the others' results are kept. shard 1 of 2 was killed by SIGKILL" in stderr
    assert metrics(folder / "0")["status"] == "completed"
    succeed(start(tmp_path, "generate", options))
    assert (tmp_path / "generate/records.jsonl").read_text() == (alone / "generate/records.jsonl").read_text()


def _opens(pid, folder):
    """Whether a process holds a file in `folder` open."""
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    return any(link.startswith(str(folder)) for link in links)


def test_a_log_that_is_open_already_gets_each_record_once(tmp_path):
    path = tmp_path / "generate.log"
    with log_file(path), log_file(path) as begin:
        begin()
        logging.getLogger("pmg.test").info("drawn")
    assert path.read_text().count("drawn") == 1
