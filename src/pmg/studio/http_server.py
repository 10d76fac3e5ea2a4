"""Local web server: runs an application, limits requests, and reports errors in one line."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from pmg.domain import PmgError

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

log = logging.getLogger(__name__)
LOCAL = ("127.0.0.1", "localhost", "::1")
HOST = re.compile(r"(?:\[([\da-f:.]+)\]|([\w.-]+))(?::\d{1,5})?", re.ASCII | re.IGNORECASE)
WITHIN, STOP_WITHIN = 10, 5  # seconds for a request's headers, and for each part behind them; to end open connections
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def create_app(host: str, largest: int, page: str) -> FastAPI:
    """Returns an application that serves a page, and whose errors are JSON: ``{"error": one line}``.

    It answers requests to its own address alone (a public `host` accepts every name), of `largest` bytes at most, and
    refuses those of other origins' pages, whose browsers name the origin; a request that changes something must be
    JSON or bytes, which such a page can't send without permission.
    """
    from fastapi import FastAPI
    from fastapi.responses import HTMLResponse

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guard(request: Request, respond: Callable[[Request], Awaitable[Response]]) -> Response:
        """Refuses what is not allowed, and adds headers."""
        refused = _refuse(request, host, largest)
        response = _error(*refused) if refused else await respond(request)
        response.headers.update(HEADERS)
        return response

    @app.api_route("/", methods=["GET", "HEAD"], response_class=HTMLResponse)
    def show() -> str:
        """Returns the page."""
        return page

    _report_errors(app)
    return app


def _error(status: int, text: str) -> Response:
    from fastapi.responses import JSONResponse

    return JSONResponse({"error": " ".join(text.split())}, status)


def _refuse(request: Request, host: str, largest: int) -> tuple[int, str] | None:
    """Returns status and reason for a request that is not allowed; else None."""
    asked = request.headers.get("host", "")  # `request.url` has the server's own address where this is no name
    if host in LOCAL and not ((name := HOST.fullmatch(asked)) and (name[1] or name[2]).lower() in LOCAL):
        return 403, f"the host {asked.rpartition(':')[0] or asked} is not this server"
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        return 403, f"a page of {origin[:60]} can't use this server"
    if request.method not in ("GET", "HEAD", "POST"):
        return 405, f"the method {request.method} is not supported"
    if request.method == "POST":
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind not in ("application/json", "application/octet-stream"):
            return 415, f"the content type '{kind[:60]}' is not supported"
        length = request.headers.get("content-length", "")
        if "transfer-encoding" in request.headers or not length.isdigit() or int(length) > largest:
            return 413, f"the request is too large: at most {largest} bytes are allowed"
    return None


def _report_errors(app: FastAPI) -> None:
    """Makes every error of an application one line of JSON."""
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    @app.exception_handler(HTTPException)
    async def absent(request: Request, raised: HTTPException) -> Response:
        """Names the address: it doesn't exist, or takes another method."""
        return _error(raised.status_code, f"{request.method} {request.url.path[:60]}: {raised.detail}")

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, raised: RequestValidationError) -> Response:
        """Names the first wrong field."""
        first = raised.errors()[0]
        return _error(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}"[:300])

    @app.exception_handler(PmgError)
    async def refused(request: Request, raised: PmgError) -> Response:
        """Returns the message."""
        return _error(getattr(raised, "status", 400), str(raised))

    @app.exception_handler(Exception)
    async def failed(request: Request, raised: Exception) -> Response:
        """Logs the traceback."""
        log.error("request to %s failed", request.url.path, exc_info=raised)
        return _error(500, f"the server failed ({type(raised).__name__}). Its log has the reason.")


def bind(host: str, port: int) -> socket.socket:
    """Returns a listening socket; port 0: a free one; PmgError if it isn't this machine's, or in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise PmgError(f"can't listen on {host}:{port}: {error.strerror}. Set another host or port.") from error
    return listener


def serve(app: Any, listener: socket.socket) -> None:
    """Runs an application until it is interrupted."""
    import uvicorn

    config = uvicorn.Config(
        app, http=_limited_protocol(), log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=STOP_WITHIN,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listener])


def _limited_protocol() -> type[asyncio.Protocol]:
    """Returns uvicorn's HTTP protocol, which closes connections that stop within a request."""
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class LimitedProtocol(H11Protocol):
        """A connection."""

        waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            """Expects the headers of a first request."""
            super().connection_made(transport)
            self._expect_more()

        def data_received(self, data: bytes) -> None:
            """Reads a part of a request; the rest of its body may take as long again, a whole one ends the waiting."""
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE and self.waiting is not None:
                self.waiting.cancel()
                self.waiting = None
            if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
                self._expect_more()

        def connection_lost(self, exc: Exception | None) -> None:
            """Expects nothing any more."""
            if self.waiting is not None:
                self.waiting.cancel()
            super().connection_lost(exc)

        def _expect_more(self) -> None:
            if self.waiting is None:
                self.waiting = self.loop.call_later(WITHIN, self.transport.close)

    return LimitedProtocol


def address(listener: socket.socket) -> str:
    """Returns the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
