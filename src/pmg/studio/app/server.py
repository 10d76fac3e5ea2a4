"""Server of the app: the page, uploads, and jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from pmg.domain import PmgError
from pmg.html_document import render_document
from pmg.studio.app.jobs import JobQueue
from pmg.studio.app.pictures import LARGEST, read_picture, to_data_uri
from pmg.studio.app.studio import Studio, Text, Wish
from pmg.studio.http_server import create_app

if TYPE_CHECKING:
    from fastapi import FastAPI


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
        """Returns titles that a target may mean."""
        return {"titles": studio.nearest(named.target)}

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
