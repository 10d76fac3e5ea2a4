"""Answers are kept whole: files, database, export and deletion; bad ones are refused in one line."""

from __future__ import annotations

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from pmg.domain import PmgError
from pmg.studio.survey.answers import DATABASE, Answer, AnswerStore, delete_rater, read_answers
from surveys import answer, code, make_survey

KEY = make_survey()[1]


def write(folder, *slots):
    for slot in slots:
        folder.joinpath(f"answers-{code(slot)}.json").write_text(json.dumps(answer(KEY, slot)))


def test_a_rater_counts_once(tmp_path):
    write(tmp_path, 0, 1)
    whole = answer(KEY, 0)
    (tmp_path / "answers-early.json").write_text(json.dumps({**whole, "answers": whole["answers"][:2]}))
    found = read_answers([tmp_path, tmp_path / f"answers-{code(0)}.json"], KEY["survey"])
    assert {each.rater: len(each.answers) for each in found} == {code(n): len(KEY["plans"][n]) for n in (0, 1)}


def changed(**values):
    return json.dumps({**answer(KEY, 0), **values})


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "\x00\xff", "{" * 2000, changed(survey="another"), changed(rater="../../etc/passwd"),
        changed(rater="<b>"), changed(slot=-1), changed(consent=False), changed(name="Ann"),
        changed(answers=[{"task": 0, "value": "up", "seconds": 1.0}]),
        changed(answers=[{"task": 0, "value": "left", "seconds": float("nan")}]),
        changed(answers=[{"task": 10**9, "value": "left", "seconds": 1.0}]),
        changed(answers=[{"task": 0, "value": {"accuracy": 9, "preference": 1}, "seconds": 1.0}]),
        " " * (2**20 + 1),
    ],
)  # fmt: skip
def test_a_bad_file_is_named_in_one_line(tmp_path, text):
    path = tmp_path / "answers-bad.json"
    path.write_text(text)
    with pytest.raises(PmgError, match=r"answers-bad\.json") as raised:
        read_answers([tmp_path], KEY["survey"])
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400
    assert path.read_text() == text


def test_the_database_keeps_the_first_of_two_answers(tmp_path):
    store = AnswerStore(tmp_path / DATABASE, KEY)
    rater = store.join(code(7))
    for value in ("left", "right"):
        store.add(code(7), Answer(task=0, value=value, seconds=1.0))
    again = AnswerStore(tmp_path / DATABASE, KEY)  # the server was started again
    assert again.state(code(7)) == {**rater, "answers": {0: {"value": "left", "seconds": 1.0}}}
    (found,) = read_answers([tmp_path], KEY["survey"])
    assert (found.slot, len(found.answers)) == (0, 1)


def test_ten_raters_answer_at_a_time(tmp_path):
    store = AnswerStore(tmp_path / DATABASE, KEY)

    def take_part(number):
        slot = store.join(code(number))["slot"]
        given = [Answer(**each) for each in answer(KEY, slot)["answers"]]
        for each in given[:4]:
            store.add(code(number), each)
        return slot

    with ThreadPoolExecutor(10) as pool:
        slots = list(pool.map(take_part, range(10)))
    assert sorted(slots) == sorted(number % len(KEY["plans"]) for number in range(10))
    assert [len(each.answers) for each in read_answers([tmp_path], KEY["survey"])] == [4] * 10


def test_a_locked_or_full_database_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("pmg.studio.survey.answers.BUSY_S", 0.05)
    path = tmp_path / DATABASE
    store = AnswerStore(path, KEY)
    store.join(code(1))
    store.add(code(1), Answer(task=0, value="left", seconds=1.0))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(PmgError, match=r"answers.sqlite can't be used: database is locked"):
        store.join(code(2))
    other.execute("ROLLBACK")
    other.close()
    connect = sqlite3.connect

    def full(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.execute("PRAGMA max_page_count = 1")
        return connection

    monkeypatch.setattr("pmg.studio.survey.answers.sqlite3.connect", full)

    def fill():
        for number in range(3, 400):
            store.join(code(number))

    with pytest.raises(PmgError, match="full"):
        fill()
    monkeypatch.undo()
    assert store.state(code(1))["answers"] == {0: {"value": "left", "seconds": 1.0}}


def test_a_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / DATABASE
    path.write_bytes(b"no database" * 100)
    with pytest.raises(PmgError, match="not a database"):
        AnswerStore(path, KEY)
    with pytest.raises(PmgError, match="not a database"):
        read_answers([path], KEY["survey"])


def test_a_database_of_another_survey_is_refused(tmp_path):
    AnswerStore(tmp_path / DATABASE, KEY).join(code(1))
    with pytest.raises(PmgError, match="another survey"):
        AnswerStore(tmp_path / DATABASE, {**KEY, "survey": "other"})


def test_a_raters_answers_are_deleted_everywhere(tmp_path):
    write(tmp_path, 0, 1)
    store = AnswerStore(tmp_path / DATABASE, KEY)
    for number in (0, 2):
        store.join(code(number))
        store.add(code(number), Answer(task=0, value="tie", seconds=1234.5))
    assert delete_rater([tmp_path], code(0)) == len(KEY["plans"][0]) + 1
    assert [each.rater for each in read_answers([tmp_path], KEY["survey"])] == [code(1), code(2)]
    assert code(0).encode() not in (tmp_path / DATABASE).read_bytes()
    with pytest.raises(PmgError, match="no rater has the code"):
        delete_rater([tmp_path], code(0))


def test_the_task_list_of_a_deleted_rater_is_given_again(tmp_path):
    store = AnswerStore(tmp_path / DATABASE, KEY)
    assert [store.join(code(number))["slot"] for number in range(3)] == [0, 1, 2]
    delete_rater([tmp_path], code(0))
    assert store.join(code(5))["slot"] == 0
