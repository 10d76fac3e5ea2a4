"""After Ctrl-C, the printed command resumes every command to the same result."""

from __future__ import annotations

import shlex
import shutil
import signal

import pandas as pd
import pytest

from interrupts import SIGNS, finish, interrupt, made, options, start
from runs import metrics

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder in which every command ran undisturbed."""
    place = tmp_path_factory.mktemp("whole")
    for verb in SIGNS:
        process = start(place, verb, options(verb))
        stderr = finish(process)
        assert process.returncode == 0, stderr[-2000:]
    return place


@pytest.mark.parametrize(("verb", "number"), [*((verb, signal.SIGINT) for verb in SIGNS), ("train", signal.SIGTERM)])
def test_interrupted_command_goes_on_to_the_same_result(whole, tmp_path, verb, number):
    for other in SIGNS.keys() - {verb}:
        shutil.copytree(whole / other, tmp_path / other)
    folder = tmp_path / verb
    process = start(tmp_path, verb, options(verb))
    stderr = interrupt(process, folder / SIGNS[verb], number)
    assert process.returncode == 130, stderr[-2000:]
    assert "Traceback" not in stderr
    assert metrics(folder)["status"] == "interrupted"
    (advice,) = [line for line in stderr.splitlines() if line.startswith("interrupted; resume with: ")]
    program, *arguments = shlex.split(advice.removeprefix("interrupted; resume with: "))
    assert program == f"pmg-{verb}"

    again = start(tmp_path, verb, arguments)
    stderr = finish(again)
    assert again.returncode == 0, stderr[-2000:]
    assert metrics(folder)["status"] == "completed"
    assert made(folder) == made(whole / verb)
    if verb == "generate":
        assert metrics(folder)["ledger"]["images"] < len(made(folder)["records"])
    if verb in ("train", "pretrain"):
        assert pd.read_csv(folder / "csv/version_1/metrics.csv")["step"].min() > 0
