"""A survey: blinded tasks with their images, the key that says which method made which image, and its server."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel
from torch import Tensor

from pmg.cache import atomic_write_json, atomic_write_text
from pmg.data.dataset import ImageStore
from pmg.domain import Example, PmgError
from pmg.evaluation.references import history_pixels
from pmg.html_document import render_document
from pmg.models.vision.pictures import data_uri, to_file, to_picture
from pmg.preferences.stated import own_messages
from pmg.records.storage import Key, Record
from pmg.studio.http_server import create_app
from pmg.studio.survey.answers import DATABASE, Answer, AnswerStore, Code
from pmg.studio.survey.design import Task, plan_tasks
from pmg.studio.survey.schema import SurveyDesignConfig, Texts

if TYPE_CHECKING:
    from fastapi import FastAPI

CONTENT, KEY, PAGE = "content.json", "key.json", "survey.html"
HISTORY = 12  # shown images of a history, the latest
LARGEST = 4096  # bytes of an answer


def choose_records(
    records: Sequence[Record], methods: Sequence[str] | None, items: int
) -> dict[str, dict[str, Record]]:
    """Returns one record of each method by example: those of a user's own preference and of the first seed.

    `items` examples are used; those without an image of each of the methods (None: all) are left out. PmgError if a
    method has no images, or too few examples have one of each.
    """
    own = [record for record in records if record.control == "own"]
    present = dict.fromkeys(record.method for record in own)
    wanted = list(methods or present)
    if missing := [name for name in wanted if name not in present]:
        raise PmgError(f"methods: the run has no images of '{missing[0]}'. It has {', '.join(present)}.")
    found: dict[str, dict[str, Record]] = {}
    for record in own:
        if record.method in wanted:
            found.setdefault(record.example, {}).setdefault(record.method, record)
    whole = {name: {each: found[name][each] for each in wanted} for name in found if set(found[name]) == set(wanted)}
    if len(whole) < items:
        raise PmgError(
            f"design.examples={items}, and the run has images of every method for {len(whole)} examples: ask for "
            "fewer, or name fewer methods"
        )
    return dict(list(whole.items())[:items])


def build_content(
    chosen: Mapping[str, Mapping[str, Record]], examples: Sequence[Example], store: ImageStore,
    images: Mapping[Key, Tensor], size: SurveyDesignConfig, texts: Texts, *, seed: int = 0, made: str = "",
) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    """Returns the content of the page, which names no method, and the key.

    Records are by example and method, images `(3, H, W)` in [-1, 1] by record; `made` is a digest of the records.
    PmgError if there are too few examples or methods, or a history has no images.
    """
    names = list(chosen)
    methods = list(chosen[names[0]]) if names else []
    plan = plan_tasks(size, methods, seed)
    by_id = {example.id: example for example in examples}
    pairs = [(example, method) for example in names for method in methods]
    order = np.random.default_rng([seed, 1]).permutation(len(pairs))
    code = {pairs[place]: f"p{number}" for number, place in enumerate(order)}
    of_code = {code[example, method]: chosen[example][method] for example, method in pairs}
    content = {
        **asdict(texts),
        "items": [_item(by_id[name], store) for name in names],
        "images": {name: _data_uri(images[of_code[name].key]) for name in sorted(of_code)},
        "plans": [[_public(task, names, code) for task in tasks] for tasks in plan],
    }
    sources = {name: {"example": one.example, "method": one.method, "seed": one.seed} for name, one in of_code.items()}
    key = {"records": made, "methods": methods, "items": names, "images": sources, "plans": content["plans"]}
    survey = _name(content, key)
    return {"id": survey, **content}, {"survey": survey, **key}


def _name(content: Mapping[str, Any], key: Mapping[str, Any]) -> str:
    """Returns the survey's id, of both: answers to a page count for the methods that its key names."""
    return hashlib.sha256(json.dumps([content, key]).encode()).hexdigest()[:16]


def write_survey(folder: Path, content: Mapping[str, Any], key: Mapping[str, Any]) -> None:
    """Writes the page that works from disk, what a server shows, and the key."""
    atomic_write_text(folder / PAGE, render_page(content, served=False))
    atomic_write_json(folder / CONTENT, content)
    atomic_write_json(folder / KEY, key)


def read_survey(folder: Path | str, name: str = KEY) -> dict[str, Any]:
    """Returns the content or the key of a survey, by `name`: `CONTENT` or `KEY`; PmgError if it can't be read."""
    path = Path(folder, name)
    try:
        read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if name == KEY and Path(folder, CONTENT).is_file():
            shown = json.loads(Path(folder, CONTENT).read_text(encoding="utf-8"))
            made = ({k: v for k, v in one.items() if k not in ("id", "survey")} for one in (shown, read))
            if _name(*made) != read["survey"]:
                raise ValueError("the key is not the one that was made")
        return {**read, "plans": read["plans"]}
    except FileNotFoundError:
        raise PmgError(
            f"{folder} is no folder of a survey (no {name}). Make one: pmg-survey generate_run=RUN"
        ) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise PmgError(f"{path} can't be read. Make the survey again: pmg-survey generate_run=RUN") from None


def _public(task: Task, names: Sequence[str], code: Mapping[tuple[str, str], str]) -> list[Any]:
    """Returns a task for the page: kind, item, codes of its images, and the expected answer of a check."""
    images = [code[names[task.item], method] for method in task.methods]
    return [task.kind, task.item, images, *([task.expected] if task.expected else [])]


def _item(example: Example, store: ImageStore) -> dict[str, Any]:
    """Returns what a rater sees of an example: target, liked images and messages; PmgError if there are neither."""
    liked, said = history_pixels(store, example)[-HISTORY:], own_messages(example.conversation)
    if not len(liked) and not said:
        raise PmgError(f"example '{example.id}': no liked item has an image to show, and nothing was said")
    return {"target": example.target.title, "history": [_data_uri(image) for image in liked], "said": said}


def _data_uri(image: Tensor) -> str:
    """Returns an image `(3, H, W)` in [-1, 1] as an address that contains it, encoded anew without metadata."""
    return data_uri(to_file(to_picture(image), "WEBP", quality=90, method=4), "image/webp")


def render_page(content: Mapping[str, Any], served: bool) -> str:
    """Returns the page. Texts are escaped, and its policy allows no script but its own and no other address.

    Where it is `served`, answers are sent to the server of the page; else the page saves them as a file.
    """
    values = {"content": {**content, "served": served}, "connect": "'self'" if served else "'none'"}
    return render_document("pmg.studio.survey", "survey", "pmg.studio", **values)


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
