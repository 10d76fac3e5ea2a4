"""Answers of raters: the files that the page saves and the database of the server; export and deletion."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import BaseModel, Field, ValidationError

from pmg.domain import PmgError

DATABASE = "answers.sqlite"
LARGEST = 2**20  # bytes of a file of answers
NO_RATER = "no rater has the code '{}'. The last page of a survey shows a rater's code."
BUSY_S = 5.0  # seconds that a writer waits for another one
SCHEMA = """
CREATE TABLE IF NOT EXISTS raters (rater TEXT PRIMARY KEY, survey TEXT NOT NULL, slot INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS answers (rater TEXT NOT NULL REFERENCES raters, task INTEGER NOT NULL, value TEXT NOT NULL,
    seconds REAL NOT NULL, PRIMARY KEY (rater, task)) WITHOUT ROWID;
"""
Grade = Annotated[int, Ge(1), Le(5)]
Code = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class _Strict(BaseModel, extra="forbid", strict=True, allow_inf_nan=False):
    """Takes no value of another type, and no further one."""


class Rating(_Strict):
    """Grades of one image, 1 to 5."""

    accuracy: Grade
    preference: Grade


class Answer(_Strict):
    """An answer: the task's number in the rater's list, the chosen side or the grades, and seconds."""

    task: Annotated[int, Ge(0), Le(10_000)]
    value: Literal["left", "right", "tie"] | Rating
    seconds: Annotated[float, Ge(0), Le(1e7)]


class RaterAnswers(_Strict):
    """All answers of a rater, who is a random code: nothing personal is kept."""

    survey: str
    rater: Code
    slot: Annotated[int, Ge(0), Le(1_000_000)]
    consent: Literal[True]
    answers: list[Answer]


def check_answer(answer: Answer, plan: Sequence[Sequence[Any]]) -> None:
    """Checks that an answer's task exists and is of its kind, else raises PmgError."""
    if answer.task >= len(plan):
        raise PmgError(f"task {answer.task} doesn't exist: the survey has {len(plan)} tasks")
    if (plan[answer.task][0] == "rating") != (type(answer.value) is Rating):
        raise PmgError(f"task {answer.task} is of kind {plan[answer.task][0]}: the answer {answer.value} doesn't fit")


class AnswerStore:
    """The database of a served survey. Each answer is written and synced before `add` returns.

    The file is made if it is missing; PmgError if it is no database, locked, or belongs to another survey.
    """

    def __init__(self, path: Path, key: Mapping[str, Any]) -> None:
        self.path, self.key = path, key
        with self._transaction() as connection:
            for statement in filter(str.strip, SCHEMA.split(";")):
                connection.execute(statement)
            others = connection.execute("SELECT 1 FROM raters WHERE survey != ?", (key["survey"],)).fetchone()
        if others:
            raise PmgError(f"{path} has answers to another survey. Move it, and start again.")

    def join(self, rater: str) -> dict[str, Any]:
        """Adds a rater with the task list that fewest have; returns its state, see `state`."""
        with self._transaction() as connection:
            taken = dict(connection.execute("SELECT slot, count(*) FROM raters GROUP BY slot").fetchall())
            slot = min(range(len(self.key["plans"])), key=lambda plan: taken.get(plan, 0))
            connection.execute("INSERT INTO raters VALUES (?, ?, ?)", (rater, self.key["survey"], slot))
        return {"rater": rater, "slot": slot, "answers": {}}

    def state(self, rater: str) -> dict[str, Any]:
        """Returns a rater's code, number of the task list, and answers by task; PmgError if there is no such rater."""
        with self._transaction() as connection:
            slot = self._slot(connection, rater)
            rows = connection.execute("SELECT task, value, seconds FROM answers WHERE rater = ?", (rater,)).fetchall()
        answers = {task: {"value": json.loads(value), "seconds": seconds} for task, value, seconds in rows}
        return {"rater": rater, "slot": slot, "answers": answers}

    def add(self, rater: str, answer: Answer) -> None:
        """Writes an answer, unless its task has one; PmgError if rater or task don't exist, or it can't be written."""
        values = answer.model_dump()
        with self._transaction() as connection:
            check_answer(answer, self.key["plans"][self._slot(connection, rater)])
            row = (rater, answer.task, json.dumps(values["value"]), answer.seconds)
            connection.execute("INSERT INTO answers VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", row)

    def _slot(self, connection: sqlite3.Connection, rater: str) -> int:
        found = connection.execute("SELECT slot FROM raters WHERE rater = ?", (rater,)).fetchone()
        if found is None:
            raise UnknownRaterError("this rater's code is not in the survey. Reload the page to begin.")
        return int(found[0])

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Opens a connection in a transaction that is committed at the end, or rolled back after an error."""
        with _open_database(self.path, isolation_level=None) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                if connection.in_transaction:  # SQLite itself has rolled back where the disk is full
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")


class UnknownRaterError(PmgError):
    """The code of no rater."""

    status = 404


class DatabaseError(PmgError):
    """The database can't be read or written."""

    status = 503


@contextmanager
def _open_database(path: Path, mode: str = "rwc", **options: Any) -> Iterator[sqlite3.Connection]:
    """Opens a database; turns errors of SQLite into a DatabaseError, which says what is wrong with the file."""
    try:
        address = f"{path.resolve().as_uri()}?mode={mode}"
        with closing(sqlite3.connect(address, BUSY_S, uri=True, **options)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise DatabaseError(f"{path.name} can't be used: {error}. Nothing was changed; try again.") from error


def read_answers(paths: Sequence[Path], survey: str) -> list[RaterAnswers]:
    """Returns the answers to a survey in files, databases and folders of both, each rater once.

    Of several answers of a rater to one task the first is used: a file that was saved twice counts once. Of a folder
    ``*.sqlite`` and ``answers*.json`` are read. PmgError if there are none, or one is damaged, or to another survey.
    """
    merged: dict[str, RaterAnswers] = {}
    for path in _answer_files(paths):
        for found in _read_database(path) if path.suffix == ".sqlite" else [_read_file(path)]:
            if found.survey != survey:
                raise PmgError(f"{path} answers another survey ({found.survey}, not {survey}). Leave it out.")
            earlier = merged.setdefault(found.rater, found.model_copy(update={"answers": []}))
            done = {answer.task for answer in earlier.answers}
            earlier.answers.extend(answer for answer in found.answers if answer.task not in done)
    if not merged:
        raise PmgError(f"no answers in {', '.join(map(str, paths))}. Name files or folders of them.")
    return list(merged.values())


def delete_rater(paths: Sequence[Path], rater: str) -> int:
    """Deletes a rater's files and rows, freed pages overwritten; returns the number of deleted answers.

    PmgError if there is no such rater, or a database can't be written.
    """
    deleted, found = 0, False
    for path in _answer_files(paths):
        if path.suffix == ".sqlite":
            with _open_database(path) as connection, connection:
                connection.execute("PRAGMA secure_delete = ON")
                deleted += connection.execute("DELETE FROM answers WHERE rater = ?", (rater,)).rowcount
                found |= connection.execute("DELETE FROM raters WHERE rater = ?", (rater,)).rowcount > 0
        elif (read := _read_file(path)).rater == rater:
            deleted, found = deleted + len(read.answers), True
            path.unlink()
    if not found:
        raise PmgError(NO_RATER.format(rater))
    return deleted


def _answer_files(paths: Sequence[Path]) -> list[Path]:
    """Returns files of answers, those in folders sorted by name."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted([*path.glob("answers*.json"), *path.glob("*.sqlite")])
        elif path.is_file():
            found.append(path)
        else:
            raise PmgError(f"{path} doesn't exist. Name files of answers, or a folder of them.")
    return found


def _read_file(path: Path) -> RaterAnswers:
    try:
        if path.stat().st_size > LARGEST:
            raise PmgError(f"{path} is larger than {LARGEST // 2**20} MiB: it is no file of answers. Leave it out.")
        return RaterAnswers.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise PmgError(f"{path} is no file of answers ({place or 'JSON'}: {first['msg']}). Leave it out.") from None
    except OSError as error:
        raise PmgError(f"{path} can't be read: {error.strerror}. Leave it out.") from None


def _read_database(path: Path) -> list[RaterAnswers]:
    # a journal is of a write that was killed, which only a writer can undo
    mode = "rw" if path.with_name(f"{path.name}-journal").exists() else "ro"
    with _open_database(path, mode) as connection:
        raters = connection.execute("SELECT rater, survey, slot FROM raters").fetchall()
        rows = connection.execute("SELECT rater, task, value, seconds FROM answers").fetchall()
    found: dict[str, dict[str, Any]] = {}
    for rater, survey, slot in raters:
        found[rater] = {"survey": survey, "rater": rater, "slot": slot, "consent": True, "answers": []}
    for rater, task, value, seconds in rows:
        found[rater]["answers"].append({"task": task, "value": json.loads(value), "seconds": seconds})
    return list(map(RaterAnswers.model_validate, found.values()))


def check_code(rater: str) -> None:
    """Checks the form of a rater's code, before it becomes part of a file name; else PmgError."""
    if len(rater) != 32 or not set(rater) <= set("0123456789abcdef"):
        raise PmgError(f"'{rater[:40]}' is no code of a rater: it has 32 characters 0-9 and a-f")
