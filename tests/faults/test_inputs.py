"""What people get wrong: each command fails with one clear line, and leaves the run that it named as it was."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from commands import read_by, run_here
from fault_runs import STUDY, TINY, contents, must
from pmg.commands.pmg import find_commands

CASES = yaml.safe_load(Path(__file__).with_name("inputs.yaml").read_text())
EVERY = 50  # of the cases of no run, those that are not slow


def cases(part):
    rows = [(verb, *row) for verb, found in CASES[part].items() for row in found]
    slow = [part == "folders" or number % EVERY for number in range(len(rows))]
    return [
        pytest.param(*row, id=f"pmg-{row[0]} {row[1]}", marks=pytest.mark.slow if late else ())
        for row, late in zip(rows, slow, strict=True)
    ]


def ask(verb, typed, expected, outcome, kind):
    """Runs a command, with tiny models where it has none of its own."""
    given = shlex.split(typed)
    tiny = () if verb not in ("train", "generate", "study") or "pipeline=" in typed else (*TINY, "scorer=tiny")
    chosen = [text for text in tiny if not any(one.startswith(text.partition("=")[0] + "=") for one in given)]
    cache = ["paths.cache_dir=cache"] if tiny else []
    named = [text.partition("=")[2] for text in given if text.startswith("run_dir=")]
    folder = Path(named[-1] if named else verb)  # as experiment=faults calls it
    before = contents(folder)
    done = run_here(verb, *read_by(verb, chosen), *cache, *given)
    lines = [line for line in done.stderr.splitlines() if line.strip() and "Loading weights" not in line]
    outcome(kind, verb, typed, "one clear line", " / ".join(lines))
    assert done.returncode != 0
    assert len(lines) == 1, lines
    assert expected in lines[0]
    assert not before or contents(folder) == before


@pytest.mark.parametrize(("verb", "typed", "expected"), cases("inputs"))
def test_bad_input_gets_one_clear_line(verb, typed, expected, tmp_path, monkeypatch, outcome):
    monkeypatch.chdir(tmp_path)
    ask(verb, typed, expected, outcome, "bad input")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a training, a generation and an evaluation."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for verb in ("train", "generate", "evaluate"):
            must(verb, *STUDY)
    return folder


@pytest.mark.parametrize(("verb", "typed", "expected"), cases("folders"))
def test_bad_input_leaves_finished_runs_as_they_are(verb, typed, expected, runs, monkeypatch, outcome):
    monkeypatch.chdir(runs)
    ask(verb, typed, expected, outcome, "bad input beside runs")


def test_each_command_has_cases():
    assert CASES["inputs"].keys() == find_commands().keys()
