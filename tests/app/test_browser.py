"""The app in a real browser, on a tiny pipeline: history, generation, alpha, saving, a broken upload, axe."""

from __future__ import annotations

import json
import shutil
import threading

import pytest

from apps import encode, load_tiny
from pmg.http_server import address, bind

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.ci,
    pytest.mark.skipif(BROWSER is None, reason="no chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def url(root, tmp_path_factory, emoji):
    import uvicorn

    from pmg.app.server import build_app
    from pmg.app.studio import Studio

    studio = Studio(load_tiny(root, tmp_path_factory.mktemp("pipeline")), emoji, 3, 6, [0.5, 1.0, 2.0], 0)
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(build_app(studio), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield address(listener)
    server.should_exit = True
    thread.join(10)


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_from_a_history_to_saved_files(url, tmp_path, width, height):
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page, told, asked = browser.new_page(viewport={"width": width, "height": height}), [], []
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda sent: asked.append(sent.url))
        page.goto(url)
        page.click("#generate")
        page.wait_for_selector("#error:not(:empty)")
        assert "history is empty" in page.text_content("#error")
        page.click("#pictures button >> nth=0")
        for _ in range(2):
            page.click("#pictures button >> nth=1")
        assert page.text_content("#counts") == "1 liked, 1 disliked"
        (tmp_path / "broken.png").write_bytes(encode()[:30])
        (tmp_path / "good.png").write_bytes(encode())
        page.click("details summary >> nth=0")
        page.set_input_files("#upload", tmp_path / "broken.png")
        page.locator("#error", has_text="no picture").wait_for()
        page.set_input_files("#upload", tmp_path / "good.png")
        page.wait_for_selector("#uploads img")
        page.fill("#target", "<b>rocket</b>")
        page.click("#generate")
        page.locator("#step", has_text="done").wait_for(timeout=60_000)
        assert page.locator("#owners img").count() == 3
        before, requests = page.get_attribute("img[data-owner=own]", "src"), len(asked)
        shown = set()
        for alpha in ("0", "0.5", "1"):
            page.locator("#alpha").fill(alpha)
            shown.add(page.get_attribute("img[data-owner=own]", "src"))
        assert before in shown
        assert not [sent for sent in asked[requests:] if sent.startswith("http")]  # no other draw
        for name, suffix in (("#save-image", "png"), ("#save-record", "json")):
            with page.expect_download() as download:
                page.click(name)
            download.value.save_as(tmp_path / f"saved.{suffix}")
        assert json.loads((tmp_path / "saved.json").read_text())["alpha"] == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = [one for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")]
        assert not [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found]
        browser.close()
    assert [text for text in told if "400" not in text] == []  # refused requests
    assert not [sent for sent in asked if not sent.startswith((url, "data:", "blob:"))]
