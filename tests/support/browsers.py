"""What tests in a real browser share."""

from __future__ import annotations

import contextlib
import shutil
import threading

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
IN_BROWSER = [
    pytest.mark.slow,
    pytest.mark.flaky(reruns=1, only_rerun="TimeoutError"),  # a busy browser may stall; no assert reruns
    pytest.mark.skipif(BROWSER is None, reason="no chromium: apt-get install chromium"),
]


@contextlib.contextmanager
def launched():
    """Starts Chromium and yields it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def served(app):
    """Serves an ASGI application on a free port and yields its address."""
    import uvicorn

    from pmg.studio.http_server import address, bind

    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield address(listener)
    finally:
        server.should_exit = True
        thread.join(10)


def barriers(page):
    """Returns what axe finds on a page that keeps people out: its rule and the elements."""
    from axe_playwright_python.sync_playwright import Axe

    found = [each for each in Axe().run(page).response["violations"] if each["impact"] in ("serious", "critical")]
    return [(each["id"], [node["html"][:120] for node in each["nodes"]]) for each in found]
