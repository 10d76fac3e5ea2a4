"""Server of a survey: the page, and answers into SQLite."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from pmg.domain import PmgError
from pmg.studio.http_server import create_app
from pmg.studio.survey.answers import DATABASE, Answer, AnswerStore, Code
from pmg.studio.survey.materials import CONTENT, KEY, read_survey, render_page

if TYPE_CHECKING:
    from fastapi import FastAPI

LARGEST = 4096  # bytes of an answer


class Join(BaseModel, extra="forbid"):
    """A rater begins."""

    survey: str
    consent: Literal[True]


class Resume(BaseModel, extra="forbid"):
    """A rater continues."""

    rater: Code


class Submission(Answer):
    """An answer with the rater's code."""

    rater: Code


def build_server(folder: Path, host: str = "127.0.0.1") -> FastAPI:
    """Returns the application that serves the survey in a folder, with its database; PmgError if it can't be used."""
    content, key = read_survey(folder, CONTENT), read_survey(folder, KEY)
    store = AnswerStore(folder / DATABASE, key)
    app = create_app(host, LARGEST, render_page(content, served=True))

    @app.post("/api/join")
    def join(body: Join) -> Mapping[str, Any]:
        """Adds a rater with a random code."""
        if body.survey != key["survey"]:
            raise PmgError("this page is of another survey. Reload it.")
        return store.join(secrets.token_hex(16))

    @app.post("/api/state")
    def state(body: Resume) -> Mapping[str, Any]:
        """Returns a rater's answers."""
        return store.state(body.rater)

    @app.post("/api/answer")
    def answer(body: Submission) -> Mapping[str, Any]:
        """Writes an answer."""
        store.add(body.rater, Answer(task=body.task, value=body.value, seconds=body.seconds))
        return {"saved": body.task}

    return app
