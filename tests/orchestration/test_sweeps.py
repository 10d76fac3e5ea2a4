"""Sweeps by every launcher, and searches: jobs are independent, and a rerun resumes them."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from commands import FEW, read_by
from launchers import LAUNCHERS, launched_by
from pmg.configuration.compose import explain
from pmg.domain import PmgError
from pmg.orchestration.sweep import (
    Sweep,
    find_jobs,
    format_best_trial,
    refuse_run_dir,
    rerun_command,
    resume_study,
    summarize,
    varied,
)
from pmg.orchestration.sweep_jobs import end_with_parent, run_in_child
from pmg.runs.process_state import RunFailedError
from runs import metrics, write_run

SEARCHES = sorted(path.stem for path in (Path(__file__).resolve().parents[2] / "conf" / "hparams_search").glob("*"))
TINY = [
    "trainer=cpu", "trainer.max_steps=2", "trainer.val_check_interval=2", "language_model=tiny", "text_encoder=tiny",
    "generator=tiny", "scorer=tiny", *FEW, "paths.cache_dir=cache",
    "split_sizes={train: 8, validation: 4, test: 4}", "objective.users_per_step=4", "objective.batches.draws=2",
]  # fmt: skip


def statuses(folder):
    return {path.parent.name: metrics(path.parent)["status"] for path in sorted(folder.glob("*/metrics.json"))}


def advice(stderr):
    """The arguments of the command that a sweep names at its end."""
    start = "run only failed and missing jobs: "
    (line,) = [line for line in stderr.splitlines() if line.startswith(start)]
    program, *arguments = shlex.split(line.removeprefix(start))
    assert program == "pmg-train"
    return arguments


def test_rerun_command_is_the_original_one(tmp_path):
    given = ["-m", "-cd", "my conf", "hydra/launcher=joblib", "data.topics=[a,b],[c]", "run_dir=x", "seed=1,2"]
    again = shlex.split(rerun_command("train", given, tmp_path))
    kept = [argument for argument in given if argument != "run_dir=x"]
    assert again == ["pmg-train", *kept, f"run_dir={tmp_path}"]
    assert shlex.split(rerun_command("train", given)) == ["pmg-train", *given]


def test_the_folder_of_a_run_is_refused_where_runs_have_folders_of_their_own():
    with pytest.raises(PmgError, match=r"run_dir=x: .* go to studies/s\. Set hydra\.sweep\.dir=FOLDER"):
        refuse_run_dir("x", Path("studies/s"), ["run_dir=x", "seed=1"])
    refuse_run_dir("x", Path("x"), ["run_dir=x", "seed=1"])
    refuse_run_dir("outputs/run", Path("studies/s"), ["seed=1"])


@pytest.mark.parametrize(
    ("option", "extra"), [("launcher/joblib", "sweep"), ("launcher/ray", "ray"), ("sweeper/optuna", "sweep")]
)
def test_missing_plugin_names_the_extra_that_brings_it(option, extra):
    error = MissingConfigException("not found", missing_cfg_file=f"hydra/{option}", options=["basic"])
    assert explain(error, "train").endswith(f"pip install 'pmg-personalised[{extra}]'")
    assert "options: basic" in explain(MissingConfigException("", "hydra/launcher/joblibb", ["basic"]), "train")


def test_job_in_a_child_can_fail_or_be_killed(tmp_path):
    def fail(code):
        raise RunFailedError(code)

    run_in_child(lambda: (tmp_path / "made").write_text("x"))
    assert (tmp_path / "made").exists()
    for job, code in ((lambda: fail(3), 3), (lambda: os.kill(os.getpid(), signal.SIGKILL), 1)):
        with pytest.raises(RunFailedError) as caught:
            run_in_child(job)
        assert caught.value.exit_code == code


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the death of a parent")
def test_job_is_interrupted_when_the_process_of_its_sweep_is_killed(tmp_path):
    def job():
        try:
            (tmp_path / "started").touch()
            time.sleep(60)
        except KeyboardInterrupt:
            (tmp_path / "saved").touch()

    def wait_for(name):
        end = time.monotonic() + 30
        while not (tmp_path / name).exists():
            assert time.monotonic() < end, name
            time.sleep(0.01)

    sweep = os.fork()
    if sweep == 0:
        try:  # no copy of the test process may go on
            if os.fork() == 0:  # the worker
                end_with_parent()
                run_in_child(job)
            time.sleep(60)
        finally:
            os._exit(0)
    wait_for("started")
    os.kill(sweep, signal.SIGKILL)
    os.waitpid(sweep, 0)
    wait_for("saved")


def test_search_resumes_with_trials_that_have_no_result(tmp_path):
    optuna = pytest.importorskip("optuna")
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=storage, study_name="s", sampler=optuna.samplers.RandomSampler(seed=0))
    for state in (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        study.tell(trial, 1.0 if state.name == "COMPLETE" else None, state)
    study.ask().suggest_float("x", 0, 1)  # cut off
    missing = [trial.params["x"] for trial in study.trials[1:]]
    sweeper = {"storage": storage, "study_name": "s", "n_trials": 5, "sampler": {"seed": 0}}

    for queued in (2, 2):  # the second time no trial is queued again
        cfg = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}, "sweeper": sweeper}})
        OmegaConf.set_readonly(cfg.hydra, True)  # as `HydraConfig` leaves it
        resume_study(cfg)
        assert cfg.hydra.sweeper.n_trials == 4
        assert cfg.hydra.sweeper.sampler.seed >= 3
        assert sum(trial.state.name == "WAITING" for trial in study.trials) == queued
    assert [study.ask().suggest_float("x", 0, 1) for _ in missing] == missing


def test_failed_jobs_of_an_earlier_sweep_are_shown_and_not_counted(tmp_path, capsys):
    for number, status in enumerate(("failed", "completed")):
        write_run(tmp_path / str(number), status=status)
    for age, failed in ((60, True), (-60, False)):
        assert summarize(Sweep(tmp_path, "train", "BasicLauncher", None, time.time() - age)) is failed
        assert "2 jobs" in capsys.readouterr().out


def test_a_job_without_a_status_is_damaged(tmp_path):
    write_run(tmp_path / "0")
    (tmp_path / "0" / "metrics.json").write_text('{"command": "train"}')
    assert [job.status for job in find_jobs(tmp_path, "train")] == ["damaged"]


def test_jobs_are_named_by_what_differs_and_runs_inside_of_jobs_are_none(tmp_path):
    for job in (10, 2):
        write_run(tmp_path / str(job), overrides=["seed=1", f"optimizer.lr={job}"])
        write_run(tmp_path / str(job) / "part")
    jobs = find_jobs(tmp_path, "train")
    assert [job.folder.name for job in jobs] == ["2", "10"]
    assert varied(jobs) == [{"optimizer.lr": "2"}, {"optimizer.lr": "10"}]


def test_sweep_without_a_study_is_left_alone(tmp_path):
    cfg = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}, "sweeper": {"params": {"seed": "1,2"}}}})
    before = cfg.copy()
    resume_study(cfg)
    assert cfg == before
    assert format_best_trial(tmp_path) is None


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_launcher_runs_every_job_and_runs_again_only_what_failed(pmg, tmp_path, launcher):
    options = [*launched_by(launcher), *TINY, "run_dir=sweep", "logger=none"]
    done = pmg("train", "-m", "preference_encoder.placement=late,nowhere,front", *options)
    assert done.returncode == 1, done.stderr[-2000:]
    assert statuses(tmp_path / "sweep") == {"0": "completed", "1": "failed", "2": "completed"}
    assert "3 jobs in sweep" in done.stdout
    assert "nowhere" in metrics(tmp_path / "sweep" / "1")["error"]
    arguments = advice(done.stderr)
    assert set(arguments) >= {f"hydra/launcher={launcher}", *LAUNCHERS[launcher][1]}
    started = {job: metrics(tmp_path / "sweep" / job)["started"] for job in "012"}

    again = pmg("train", *(argument.replace("nowhere", "late") for argument in arguments))
    assert again.returncode == 0, again.stderr[-2000:]
    assert "failed or is missing" not in again.stderr
    restarted = {job for job in "012" if metrics(tmp_path / "sweep" / job)["started"] != started[job]}
    assert restarted == {"1"}


SLURM = {  # SLURM's commands as submitit calls them: an array of two jobs runs here, each with SLURM's variables
    "sbatch": """
cp "${@: -1}" submitted.sh
for task in 0 1; do
    SLURM_JOB_ID=7$task SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$task SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0 \\
        SLURM_JOB_NUM_NODES=1 SLURM_NNODES=1 SLURM_NODEID=0 SLURM_JOB_NAME=train SLURM_NODELIST=localhost \\
        SLURM_JOB_NODELIST=localhost bash "${@: -1}" > slurm-$task.log 2>&1 &
done
echo "Submitted batch job 7"
""",
    "srun": """
while [ "${1:0:2}" = "--" ]; do [ "$1" = --unbuffered ] && shift || shift 2; done
exec "$@"
""",
    "sacct": 'echo "JobID|State|NodeList"',
    "scontrol": "echo localhost",
}


@pytest.mark.slow
def test_slurm_gets_what_was_asked_for(pmg, tmp_path):
    """There is no SLURM here: stand-ins for its commands show what it is given, and run that."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    for name, text in SLURM.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/bash\n{text}\n")
        program.chmod(0o755)
    asked = ["partition=gpu", "gpus_per_node=1", "mem_gb=32", "timeout_min=240", "max_num_timeout=3"]
    launcher = ["hydra/launcher=submitit_slurm", *(f"hydra.launcher.{text}" for text in asked)]
    done = pmg(
        "train", "-m", "preference_encoder.placement=nowhere,late", *launcher, *TINY, "run_dir=sweep",
        "logger=none", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}",
    )  # fmt: skip
    submitted = (tmp_path / "submitted.sh").read_text()
    for line in ("--partition=gpu", "--gpus-per-node=1", "--mem=32GB", "--time=240", "--array=0-1%2"):
        assert f"#SBATCH {line}\n" in submitted
    assert done.returncode == 1, done.stderr[-2000:]
    assert statuses(tmp_path / "sweep") == {"0": "failed", "1": "completed"}
    assert set(advice(done.stderr)) >= set(launcher)


KILLED = """
import os
from pmg.orchestration.launcher import launch
def body(cfg, run):
    if cfg.seed == 2:
        os.kill(os.getpid(), 9)
launch("train", body)
"""


@pytest.mark.slow
def test_job_killed_by_the_system_costs_no_other(shell, tmp_path):
    (tmp_path / "job.py").write_text(KILLED)
    options = ["run_dir=sweep", "logger=none", "callbacks=none", *launched_by("joblib")]
    done = shell(sys.executable, "job.py", "-m", "seed=1,2,3,4", *options)
    assert done.returncode == 1
    assert statuses(tmp_path / "sweep") == {"0": "completed", "1": "running", "2": "completed", "3": "completed"}
    assert "unfinished" in done.stdout
    assert advice(done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_interrupted_sweep_saves_its_jobs_and_goes_on(pmg, tmp_path, launcher):
    options = [
        *launched_by(launcher),
        *TINY,
        "run_dir=sweep",
        "trainer.max_steps=300",
        "trainer.val_check_interval=300",  # TINY's would be 150 validations
        "+logger.csv.flush_logs_every_n_steps=1",
        "trainer.log_every_n_steps=1",
    ]
    command = [sys.executable, "-m", "pmg.commands.train", "-m", "seed=1,2", *read_by("train", options)]
    texts = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=tmp_path, **texts)
    steps = tmp_path / "sweep" / "0" / "csv" / "version_0" / "metrics.csv"
    while process.poll() is None and not (steps.exists() and steps.stat().st_size):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 130, stderr[-2000:]
    assert statuses(tmp_path / "sweep")["0"] == "interrupted"
    assert "Traceback" not in stderr
    assert "jobs in sweep" in stdout

    again = pmg("train", *advice(stderr))
    assert again.returncode == 0, again.stderr[-2000:]
    assert statuses(tmp_path / "sweep") == {"0": "completed", "1": "completed"}
    assert (tmp_path / "sweep" / "0" / "csv" / "version_1").exists()  # from its checkpoint


@pytest.mark.slow
@pytest.mark.parametrize("search", SEARCHES)
def test_search_runs_and_goes_on_to_its_number_of_trials(pmg, tmp_path, search):
    optuna = pytest.importorskip("optuna")
    options = [f"hparams_search={search}", *TINY, "run_dir=sweep", "logger=none"]
    if search == "optuna":
        options += ["optimizer.lr=tag(log, interval(1e-4, 1e-2))"]
    options += ["objective.module.terms.contrast.weight=0,1"] if search == "grid" else ["hydra.sweeper.n_trials=2"]
    done = pmg("train", *options)
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(statuses(tmp_path / "sweep").values()) == ["completed"] * 2
    if search == "grid":
        return
    assert "best: " in done.stdout
    again = pmg("train", *options[:-1], "hydra.sweeper.n_trials=3")
    assert again.returncode == 0, again.stderr[-2000:]
    assert list(statuses(tmp_path / "sweep").values()) == ["completed"] * 3
    storage = f"sqlite:///{tmp_path}/sweep/study.db"
    assert len(optuna.load_study(study_name=None, storage=storage).trials) == 3
    assert OmegaConf.load(tmp_path / "sweep" / "optimization_results.yaml").best_value > 0


@pytest.mark.slow
def test_failed_trial_costs_no_other_and_is_tried_again(pmg, tmp_path):
    pytest.importorskip("optuna")
    space = "preference_encoder.placement=choice(late, nowhere)"
    sampler = ["hydra/sweeper/sampler=random", "hydra.sweeper.n_trials=4"]
    options = ["hparams_search=optuna", *TINY, "run_dir=sweep", "logger=none", *sampler]
    done = pmg("train", *options, space)
    assert done.returncode == 1
    assert set(statuses(tmp_path / "sweep").values()) == {"completed", "failed"}
    assert "best: " in done.stdout
    assert advice(done.stderr)
