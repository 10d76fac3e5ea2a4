"""What the app does: users and pictures to choose from, the generation for a history, and its server."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le
from pydantic import BaseModel, Field
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from pmg.api.call_arguments import ItemLike, with_pictures
from pmg.api.pipeline_personalized import PersonalizedPipeline
from pmg.api.user_preference import UserPreference
from pmg.configuration.ranges import Strength
from pmg.data.dataset import Dataset, liked_with_image
from pmg.domain import Item, PmgError
from pmg.generation.selection import pareto_front, pick
from pmg.html_document import render_document
from pmg.models.language.picture_marks import name_pictures
from pmg.preferences.target_names import TargetNames
from pmg.studio.app.jobs import Job, JobQueue
from pmg.studio.app.pictures import LARGEST, from_data_uri, read_picture, to_data_uri
from pmg.studio.http_server import create_app

if TYPE_CHECKING:
    from fastapi import FastAPI

ALPHAS = torch.linspace(0, 1, 101)  # of the page's slider
SHOWN = 3  # titles behind a user's name
Text = Annotated[str, Field(min_length=1, max_length=300)]


class Upload(BaseModel, extra="forbid"):
    """An uploaded picture as an item."""

    title: Text
    picture: Annotated[str, Field(max_length=2**20)]
    facts: dict[Text, Text] = {}


class Wish(BaseModel, extra="forbid"):
    """What is generated for indices of pictures, own pictures, and messages said to an assistant, oldest first.

    Attributes:
        other: index of the user whose preference is compared; None: no comparison.
        steps: solver steps; None: the pipeline's.
        start: a picture of the target that all images start from; None: noise alone.
        strength: how much of it is drawn anew, see `Start`.
    """

    liked: Annotated[list[Annotated[int, Ge(0)]], Field(max_length=60)] = []
    disliked: Annotated[list[Annotated[int, Ge(0)]], Field(max_length=60)] = []
    uploads: Annotated[list[Upload], Field(max_length=6)] = []
    said: Annotated[list[Annotated[str, Field(min_length=1, max_length=500)]], Field(max_length=24)] = []
    target: Text
    other: Annotated[int, Ge(0)] | None = None
    seed: Annotated[int, Ge(0), Le(2**53)] = 0
    steps: Annotated[int, Ge(1), Le(200)] | None = None
    start: Annotated[str, Field(max_length=2**20)] | None = None
    strength: Strength = 0.7


class Studio:
    """Pictures and users of a data set, and a pipeline that generates for them; arguments as in `AppConfig`.

    Users are those who liked something that has a picture; `seed` is of the choice of pictures.
    """

    def __init__(
        self, pipe: PersonalizedPipeline, data: Dataset, users: int, pictures: int, weights: Sequence[float],
        seed: int, *, alpha: float = 0.5,
    ) -> None:  # fmt: skip
        self.pipe, self.store, self.alpha = pipe, data.images, alpha
        self.weights = [(weight, 1.0) for weight in weights]
        examples = data.examples("test", None, 1)
        people = [(example.user, liked_with_image(self.store, example)[-12:]) for example in examples]
        people = [(name, items) for name, items in people if items]  # others only talk
        self.users = people[:users]
        self.names = [own if data.taste_label is None else f"person {n}" for n, (own, _) in enumerate(self.users, 1)]
        liked = [item for _, items in self.users for item in items]
        others = [item for _, items in people[users:] for item in items]
        order = np.random.default_rng(seed).permutation(len(others))
        chosen = [*liked, *(others[place] for place in order)]
        self.items = list({item.id: item for item in chosen}.values())[: len({item.id for item in liked}) + pictures]
        self.index = {item.id: place for place, item in enumerate(self.items)}
        named = [*(example.target for example in examples), *(item for _, items in people for item in items)]
        self.target = named[0].title if named else ""
        if names := TargetNames.of(pipe.pipeline.generator):
            texts: Any = copy.copy(names.text_encoder)
            texts.tokenizer = copy.deepcopy(texts.tokenizer)  # a job may use the other at the same time
            names = TargetNames(names.names, texts)
        self.target_names, self.titles = names, sorted(names.names if names else {item.title for item in named})
        self.chats = bool(pipe.components["scenario"].chat_template)
        self._other = lru_cache(users)(
            lambda user: pipe.extract_preference([self._given(item) for item in self.users[user][1]])
        )

    def describe(self) -> dict[str, Any]:
        """Returns what the page shows before a generation, JSON-able."""
        names = self.pipe.captioner.facts or ()
        facts = {name: sorted({item.facts[name] for item in self.items if name in item.facts}) for name in names}
        users = []
        for name, (_, items) in zip(self.names, self.users, strict=True):
            titles = ", ".join(dict.fromkeys(item.title for item in items[-SHOWN:]))
            users.append({"name": f"{name}: {titles}", "liked": [self.index[item.id] for item in items]})
        return {
            "users": users,
            "pictures": [{"title": item.title, "picture": self._picture(item)} for item in self.items],
            "target": self.target,
            "titles": self.titles,
            "only": self.target_names is not None,
            "facts": facts,
            "chats": self.chats,
            "alpha": self.alpha,
            "steps": self.pipe.pipeline.steps,
            "starts": self.pipe.pipeline.generator.supports.fixed_steps is None,
        }

    def check(self, wish: Wish) -> None:
        """Checks that a wish names something, pictures and users that exist, and fits the pipeline; else PmgError."""
        if not wish.liked and not wish.uploads and not wish.said:
            raise PmgError("no picture is chosen. Click some that you like, upload one, or choose a person's likes.")
        if wish.said and not self.chats:
            raise PmgError(
                "this pipeline reads no messages. Start the app with one that does: pmg-app scenario=look_chats"
            )
        if any(not text.strip() for text in wish.said):
            raise PmgError("a message is empty. Write what you like, or remove it.")
        for index in (*wish.liked, *wish.disliked):
            if index >= len(self.items):
                raise PmgError(f"picture {index} doesn't exist. Reload the page.")
        if wish.other is not None and wish.other >= len(self.users):
            raise PmgError(f"user {wish.other} doesn't exist. Reload the page.")
        if not wish.target.strip():
            raise PmgError("the target is empty. Name what the picture should show.")
        for picture in (*(upload.picture for upload in wish.uploads), *filter(None, [wish.start])):
            from_data_uri(picture)

    def generate(self, wish: Wish, job: Job) -> None:
        """Generates images for the user, without a preference, and for another user; each is shown once it is done.

        CancelledError if the job was cancelled; inside of a draw, too.
        """
        total = 5 if wish.other is not None else 3
        with stops_within(job):
            job.report("reading your likes", 0)
            dislikes = [self._given(self.items[index]) for index in wish.disliked]
            said = [{"role": "user", "content": text} for text in wish.said]
            preference = self.pipe.extract_preference(self._history(wish), dislikes, said)
            job.report("drawing for you", 1 / total)
            job.results["own"] = self._draw(preference, wish) | {"captions": self._captions(preference, wish)}
            job.report("drawing for nobody in particular", 2 / total)
            job.results["nobody"] = self._draw(None, wish)
            if wish.other is not None:
                job.report("reading the other person's likes", 3 / total)
                other = self._other(wish.other)
                job.report("drawing for the other person", 4 / total)
                job.results["other"] = self._draw(other, wish) | {"user": self.names[wish.other]}

    def _given(self, item: Item) -> dict[str, Any]:
        """Returns an item as an argument of the pipeline, with its picture and the facts that the captioner uses."""
        (given,) = with_pictures([item], self.store)
        names = self.pipe.captioner.facts or ()
        return {**given, "facts": {name: item.facts[name] for name in names if name in item.facts}}

    def _history(self, wish: Wish) -> list[ItemLike]:
        history: list[ItemLike] = [self._given(self.items[index]) for index in wish.liked]
        for upload in wish.uploads:
            history.append({"title": upload.title, "facts": upload.facts, "image": from_data_uri(upload.picture)})
        return history

    def _captions(self, preference: UserPreference, wish: Wish) -> list[str]:
        titles = {item.id: item.title for item in self.items}
        titles |= {self.items[index].id: f"{self.items[index].title} (disliked)" for index in wish.disliked}
        captions = {name: name_pictures(caption) for name, caption in preference.captions.items()}
        return [f"{titles.get(name, 'your picture')}: {caption}" for name, caption in captions.items()]

    def _draw(self, preference: UserPreference | None, wish: Wish) -> dict[str, Any]:
        start = from_data_uri(wish.start) if wish.start else None
        images, record = self.pipe.draw_candidates(
            preference, wish.target, wish.seed, wish.steps, self.weights, image=start, strength=wish.strength
        )
        points = [(1.0 if c["preference"] is None else c["preference"], c["accuracy"]) for c in record["candidates"]]
        d_p, d_t = torch.tensor(points).T[:, None].expand(-1, len(ALPHAS), -1)
        alphas = ALPHAS[:, None] * (record["candidates"][0]["preference"] is not None)
        return {
            "images": [to_data_uri(image) for image in images],
            "record": record,
            "front": list(pareto_front(points)),
            "picks": pick(self.pipe.pipeline.combination(d_p, d_t, alphas)).tolist(),
            "scores": list(preference.keywords.scores) if preference else [],
            "dropped": record["dropped_keywords"],
        }

    def _picture(self, item: Item) -> str:
        picture = self._given(item)["image"]
        picture.thumbnail((96, 96))
        return to_data_uri(picture)


@contextmanager
def stops_within(job: Job) -> Iterator[None]:
    """Checks before each layer of a network that runs in this thread whether the job was cancelled."""
    own = threading.get_ident()

    def check(module: nn.Module, inputs: Any) -> None:
        """Checks the job, in its own thread alone."""
        if threading.get_ident() == own:
            job.check()

    hook = register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        hook.remove()


class JobCode(BaseModel, extra="forbid"):
    """Names a job."""

    id: str


class Named(BaseModel, extra="forbid"):
    """Names a target."""

    target: Text


def build_app(studio: Studio, host: str = "127.0.0.1", waiting: int = 8) -> FastAPI:
    """Returns the application."""
    from fastapi import Request

    jobs = JobQueue(waiting)
    app = create_app(host, LARGEST, render_document("pmg.studio.app", "app", "pmg.studio", content=studio.describe()))

    async def upload(request: Request) -> Mapping[str, str]:
        """Returns an uploaded picture, small and encoded anew."""
        content = bytearray()
        async for part in request.stream():
            content += part
            if len(content) > LARGEST:
                raise PmgError(f"the picture is larger than {LARGEST // 2**20} MiB. Make it smaller.")
        return {"picture": to_data_uri(read_picture(bytes(content)))}

    upload.__annotations__["request"] = Request  # FastAPI reads the annotation, which is local to this function
    app.post("/api/upload")(upload)

    @app.post("/api/generate")
    def generate(wish: Wish) -> Mapping[str, str]:
        """Adds a job."""
        studio.check(wish)
        return {"id": jobs.add(lambda job: studio.generate(wish, job)).id}

    @app.post("/api/nearest")
    def nearest(named: Named) -> Mapping[str, list[str]]:
        """Returns titles that a target may mean, the one that is drawn first; none where any text is drawn."""
        return {"titles": studio.target_names.nearest(named.target) if studio.target_names else []}

    @app.post("/api/job")
    def job(code: JobCode) -> Mapping[str, Any]:
        """Returns a job's progress and results."""
        return jobs.state(code.id)

    @app.post("/api/cancel")
    def cancel(code: JobCode) -> Mapping[str, Any]:
        """Cancels a job."""
        jobs.cancel(code.id)
        return jobs.state(code.id)

    return app
