"""The study of faults at small size: one kill of two commands, one fault, a tenth of the bad inputs."""

from __future__ import annotations

import sys

import pytest

from commands import restored_hydra
from pmg.configuration.schemas import find_schemas
from pmg.runs.process_state import restored_state

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("scripts")]


def test_killed_commands_go_on_to_the_same_result(tmp_path):
    from damage import FAULTS
    from kills import kill_all
    from stages import STAGES, made

    stages = [stage for stage in STAGES if stage.verb in ("train", "generate")]
    rows = kill_all(1, tmp_path / "runs", stages)
    assert {row["stage"] for row in rows} == {"train", "generate"}
    assert all(row["equal"] and row["twice"] == 0 for row in rows)

    (fault,) = [fault for fault in FAULTS if fault.fault == "a bit of the checkpoint flipped"]
    whole, place = tmp_path / "runs" / "whole", tmp_path / "fault"
    place.mkdir()
    code, said = fault(whole, place)
    assert (code, "is damaged" in said) == (1, True)
    assert made(place / "train") == made(whole / "train")


def test_bad_inputs_get_one_clear_line(tmp_path, monkeypatch):
    from inputs import ask, read_inputs

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])  # each command sets it
    cases = list(read_inputs())[::10]  # every case: make faults
    with restored_state(), restored_hydra():
        answers = [ask(*case) for case in cases]
    assert len(answers) >= 15
    assert [answer for answer in answers if not answer.clear] == []


@pytest.mark.ci
def test_there_are_enough_bad_inputs_for_every_command():
    from inputs import read_inputs

    cases = list(read_inputs())
    assert len(cases) >= 120
    assert len({(verb, *arguments) for verb, arguments, _ in cases}) == len(cases)
    verbs = {*find_schemas(), "report"}
    assert {verb for verb, _, _ in cases} == verbs
    assert {verb for verb, _, _ in read_inputs("folders")} <= verbs


@pytest.mark.ci
def test_a_folder_that_the_study_did_not_make_is_kept(tmp_path):
    from faults import empty_place

    own = tmp_path / "mine.txt"
    own.touch()
    with pytest.raises(SystemExit, match="is not of this script, which would remove it"):
        empty_place(tmp_path)
    assert own.exists()
    runs = empty_place(tmp_path / "new")
    (runs / "train").mkdir(parents=True)
    assert empty_place(tmp_path / "new") == runs
    assert not runs.exists()


@pytest.mark.ci
@pytest.mark.parametrize(("code", "number"), [(None, 0), (0, 0), (2, 2), ("a message", 1)])
def test_exit_codes_are_those_of_the_process(code, number):
    from stages import exit_code

    assert exit_code(SystemExit(code)) == number
