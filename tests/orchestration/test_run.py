"""A run's folder, status, ledger and seed, and the state of its process, which is restored."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys

import pytest
import torch
from omegaconf import OmegaConf, ReadonlyConfigError

from pmg import __version__
from pmg.domain import PmgError
from pmg.orchestration.run import execute
from pmg.runs.ledger import Ledger
from pmg.runs.process_state import RunFailedError
from pmg.runs.run_folder import read_run
from runs import metrics
from runs import run_config as config


def test_seconds_of_many_phases_fit_a_console():
    seconds = {
        "total": 90.0,
        "describe histories": 1.0,
        "load language model": 2.0,
        "read histories": 33.5,
        "generate": 50,
    }
    ledger = Ledger()
    ledger.seconds.update(seconds)
    lines = ledger.summarize().splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) <= 80
    assert " ".join(line.strip() for line in lines).endswith("read histories 33.5, generate 50.0")


def test_the_costs_of_a_resumed_run_are_those_of_all_its_sessions(tmp_path):
    def session(seconds, error=None):
        def body(cfg, run):
            run.ledger.seconds["train"] = seconds
            if error:
                raise error

        return body

    with pytest.raises(RunFailedError):
        execute(config(tmp_path / "run"), "train", session(12.0, PmgError("full disk")))
    execute(config(tmp_path / "run"), "train", session(3.0))
    assert metrics(tmp_path / "run")["ledger"]["seconds"]["train"] == 15.0


def test_the_printed_folder_is_relative_to_the_current_one(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    execute(config(tmp_path / "outputs" / "run"), "train", lambda cfg, run: None)
    assert capsys.readouterr().out.splitlines()[-1] == "outputs/run"


def test_a_completed_run_records_results_costs_and_origin(tmp_path, capsys):
    def body(cfg, run):
        with run.ledger.phase("prefill"):
            run.ledger.count("llm_tokens_computed", 5)
        run.metrics["val/loss"] = torch.tensor(0.5)
        run.metrics["bad"] = float("nan")
        assert metrics(run.folder)["status"] == "running"
        return 0.25

    assert execute(config(tmp_path / "run", double="${seed}"), "train", body) == 0.25
    record = metrics(tmp_path / "run")
    assert record["status"] == "completed"
    assert record["seed"] == 0
    assert record["metrics"] == {"val/loss": 0.5, "bad": None}
    assert record["ledger"]["llm_tokens_computed"] == 5
    assert record["ledger"]["seconds"]["prefill"] >= 0
    assert record["ledger"]["peak_memory"]["ram_mib"] > 10
    assert record["versions"]["torch"]
    assert record["hardware"]["cores"] >= 1
    assert OmegaConf.load(tmp_path / "run" / "config.yaml").double == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "run")


def test_a_completed_training_is_left_as_it_is(tmp_path, capsys):
    """One that stopped early would go on, and Lightning forgets what was measured."""

    def body(cfg, run):
        run.metrics["val/loss"] = 0.5
        (run.folder / "encoder").write_text("trained")
        run.record_digest("encoder")
        return 0.25

    execute(config(tmp_path / "run"), "train", body)
    before = metrics(tmp_path / "run")
    assert execute(config(tmp_path / "run"), "train", lambda cfg, run: 1.0) == 0.25
    assert metrics(tmp_path / "run") == before
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "run")
    (tmp_path / "run" / "encoder").write_text("edited")
    assert execute(config(tmp_path / "run"), "train", body) == 0.25
    assert (tmp_path / "run" / "encoder").read_text() == "trained"


def test_the_log_names_command_phases_and_seconds(tmp_path):
    def body(cfg, run):
        for _ in range(2):
            with run.ledger.phase("prefill"):
                pass

    execute(config(tmp_path), "train", body, ["seed=0"])
    lines = [line.partition("[INFO] ")[2] for line in (tmp_path / "train.log").read_text().splitlines()]
    assert lines == [f"pmg-train of pmg {__version__}, seed=0", "prefill", "completed in 0.0 s: prefill 0.0"]


@pytest.mark.parametrize(
    ("error", "line"),
    [(PmgError("row 3 is empty"), "error: row 3 is empty"), (ValueError("bug"), "error: ValueError: bug in ")],
)
def test_a_failed_run_prints_one_line_and_logs_the_traceback(tmp_path, capsys, error, line):
    def body(cfg, run):
        raise error

    with pytest.raises(RunFailedError) as caught:
        execute(config(tmp_path), "train", body)
    assert caught.value.exit_code == 1
    assert metrics(tmp_path)["status"] == "failed"
    assert str(error) in metrics(tmp_path)["error"]
    assert "Traceback" in (tmp_path / "train.log").read_text()
    printed = capsys.readouterr().err
    assert printed.startswith(line)
    assert "Traceback" not in printed


def lightning_interrupt():
    """Ends as Lightning's trainer does after Ctrl-C."""
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(1)


def plain_interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("interrupt", [plain_interrupt, lightning_interrupt])
def test_interrupted_run_says_how_to_go_on(tmp_path, capsys, interrupt):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RunFailedError) as caught:
        execute(config(tmp_path), "train", lambda cfg, run: interrupt(), ["experiment=demo", "run_dir=old"])
    assert caught.value.exit_code == 130
    assert metrics(tmp_path)["status"] == "interrupted"
    assert f"pmg-train experiment=demo run_dir={tmp_path}" in capsys.readouterr().err
    written = (tmp_path / "train.log").read_text()
    assert f"resume with: pmg-train experiment=demo run_dir={tmp_path}" in written
    assert "Traceback" not in written
    assert signal.getsignal(signal.SIGINT) is before


def test_seed_zero_seeds_the_run(tmp_path):
    def draw(seed, name):
        values = []
        execute(config(tmp_path / name, seed=seed), "train", lambda cfg, run: values.append(torch.rand(3)))
        return values[0]

    assert torch.equal(draw(0, "a"), draw(0, "b"))
    assert not torch.equal(draw(0, "c"), draw(1, "d"))


def test_config_is_read_only_inside_and_targets_are_checked_first(tmp_path):
    def body(cfg, run):
        with pytest.raises(ReadonlyConfigError):
            cfg.seed = 3

    execute(config(tmp_path / "a"), "train", body)
    typo = config(tmp_path / "b", net={"_target_": "torch.nn.Linear", "biass": True})
    with pytest.raises(RunFailedError):
        execute(typo, "train", lambda cfg, run: pytest.fail("the body must not start"))
    assert "biass" in metrics(tmp_path / "b")["error"]


def test_state_of_the_process_is_restored(tmp_path):
    def body(cfg, run):
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.use_deterministic_algorithms(True)
        os.environ["LEFT_BEHIND"] = "1"

    execute(config(tmp_path), "train", body)
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert "LEFT_BEHIND" not in os.environ


def test_folder_of_another_command_is_refused_untouched(tmp_path, capsys):
    execute(config(tmp_path), "train", lambda cfg, run: None)
    before = metrics(tmp_path)
    with pytest.raises(RunFailedError):
        execute(config(tmp_path), "generate", lambda cfg, run: None)
    assert metrics(tmp_path) == before
    assert "belongs to pmg-train; name another one" in capsys.readouterr().err


def test_a_run_folder_is_read_or_refused_with_the_reason(tmp_path):
    execute(config(tmp_path / "run", name="x"), "train", lambda cfg, run: None)
    cfg, record = read_run(tmp_path / "run", "train")
    assert cfg.name == "x"
    assert record["status"] == "completed"
    with pytest.raises(PmgError, match="is not a run folder"):
        read_run(tmp_path / "nowhere", "train")
    with pytest.raises(PmgError, match="a folder of pmg-generate is needed"):
        read_run(tmp_path / "run", "generate")
    (tmp_path / "run" / "metrics.json").write_text("{")
    with pytest.raises(PmgError, match="damaged"):
        read_run(tmp_path / "run", "train")


def test_ledger_adds_up():
    ledger = Ledger()
    for _ in range(2):
        with ledger.phase("sample"):
            ledger.count("denoiser_evaluations", 16)
    assert ledger.as_dict()["denoiser_evaluations"] == 32
    assert list(ledger.as_dict()["seconds"]) == ["sample"]
    whole = Ledger()
    whole.count_nested(ledger.as_dict())  # of a part of the run, whose seconds are in the whole's
    assert (whole.counts["denoiser_evaluations"], whole.seconds) == (32, {})


SWEEP = """
from pmg.orchestration.launcher import launch
def body(cfg, run):
    if cfg.seed == 2:
        raise ValueError("bad job")
    import torch
    run.metrics["draw"] = torch.rand(()).item()
launch("estimate", body)
"""


@pytest.mark.slow
def test_failing_job_spares_the_others(shell, tmp_path):
    (tmp_path / "job.py").write_text(SWEEP)
    sweep = (sys.executable, "job.py", "-m", "seed=1,2,3", "run_dir=sweep")  # a small config
    done = shell(*sweep)
    assert done.returncode == 1
    statuses = [metrics(tmp_path / "sweep" / str(job))["status"] for job in range(3)]
    assert statuses == ["completed", "failed", "completed"]
    assert "bad job" in (tmp_path / "sweep" / "1" / "estimate.log").read_text()
    alone = config(tmp_path / "alone", seed=3)
    execute(alone, "train", lambda cfg, run: run.metrics.update(draw=torch.rand(()).item()))
    assert metrics(tmp_path / "alone")["metrics"] == metrics(tmp_path / "sweep" / "2")["metrics"]
    assert "3 jobs in sweep" in done.stdout
    assert "bad job" in done.stdout
    assert "run only failed and missing jobs: pmg-estimate -m" in done.stderr
    started = [metrics(tmp_path / "sweep" / str(job))["started"] for job in range(3)]
    (tmp_path / "job.py").write_text(SWEEP.replace("== 2", "== 9"))
    again = shell(*sweep)
    assert again.returncode == 0, again.stderr
    assert "run only failed" not in again.stderr
    restarted = [metrics(tmp_path / "sweep" / str(job))["started"] for job in range(3)]
    assert [one == other for one, other in zip(started, restarted, strict=True)] == [True, False, True]


def test_a_damaged_folder_is_told_and_left_untouched(tmp_path, capsys):
    (tmp_path / "metrics.json").write_text('{"command": "tra')
    with pytest.raises(RunFailedError):
        execute(config(tmp_path), "train", lambda cfg, run: pytest.fail("the body must not start"))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"{tmp_path / 'metrics.json'} is damaged. Remove it" in line
    assert (tmp_path / "metrics.json").read_text() == '{"command": "tra'


def test_peak_memory_is_not_that_of_the_process_which_started_it():
    large = bytearray(300 * 2**20)
    asked = "from pmg.runs.provenance import peak_memory; print(peak_memory()['ram_mib'])"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert float(done.stdout) < len(large) / 2**20


COUNT_FAULTS = """
import resource, sys
from pmg.runs.process_state import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
for step in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"1" * (3 * 2**26)  # 192 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_freed_memory_is_used_again_without_asking_the_system():
    def faults(how):
        asked = subprocess.run([sys.executable, "-c", COUNT_FAULTS, how], capture_output=True, text=True, check=True)
        return int(asked.stdout)

    assert faults("keep") < 10 < faults("give back")
