"""The app in a real browser, on a tiny pipeline: history, generation, alpha, saving, a broken upload, axe."""

from __future__ import annotations

import json

import pytest

import pmg
from apps import encode, load_tiny
from browsers import IN_BROWSER, barriers, served

pytestmark = [*IN_BROWSER, pytest.mark.ci]


@pytest.fixture(scope="module")
def url(tmp_path_factory, looks):
    from pmg.studio.app.studio import Studio, build_app

    pipe = load_tiny(tmp_path_factory.mktemp("pipeline"), names={"rocket": ["spaceship"], "dog": [], "cat": []})
    studio = Studio(pipe, looks, 3, 6, [0.5, 1.0, 2.0], 0)
    with served(build_app(studio)) as url:
        yield url


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_from_a_history_to_saved_files(chromium, url, tmp_path, width, height):
    page, told, asked = chromium.new_page(viewport={"width": width, "height": height}), [], []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda sent: asked.append(sent.url))
    page.goto(url)
    page.click("#generate")
    page.wait_for_selector("#error:not(:empty)")
    assert "no picture is chosen" in page.text_content("#error")
    assert page.locator("#error").is_visible()
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
    page.click("section[aria-labelledby=target-title] summary")
    assert page.locator("#strength").is_hidden()
    page.set_input_files("#start", tmp_path / "good.png")
    page.locator("#start-picture").wait_for()
    assert page.text_content("#knows") == "It draws 3 things; they are suggested as you type."
    page.fill("#target", "<b>rocket</b>")
    page.locator("#remark button").nth(1).wait_for()  # before anything is drawn
    page.press("#target", "Enter")
    page.locator("#step", has_text="done").wait_for(timeout=60_000)
    assert page.locator("#owners img").count() == 3
    assert page.text_content("#unsure").startswith("“<b>rocket</b>” is drawn as “")
    assert page.locator("figcaption", has_text="<b>rocket</b>, for you").count() == 1
    page.click("#details summary >> nth=0")
    before, requests = page.get_attribute("img[data-owner=own]", "src"), len(asked)
    shown = set()
    for alpha in ("0", "0.5", "1"):
        page.locator("#alpha").fill(alpha)
        shown.add(page.get_attribute("img[data-owner=own]", "src"))
    assert before in shown
    assert not [sent for sent in asked[requests:] if sent.startswith("http")]  # no other draw
    assert page.locator("figure a").count() == 3
    for name, suffix in (("figure a >> nth=2", "png"), ("#save-record", "json")):
        with page.expect_download() as download:
            page.click(name)
        download.value.save_as(tmp_path / f"saved.{suffix}")
    assert json.loads((tmp_path / "saved.json").read_text())["alpha"] == 1
    page.click("#start-remove")
    assert page.locator("#strength").is_hidden()
    page.click("#remark button >> nth=0")
    page.locator("#remark", has_text="").wait_for(state="attached")
    assert page.locator("#remark button").count() == 0
    page.select_option("#user", "0")
    page.select_option("#user", "")
    assert page.text_content("#counts") == "2 liked, 1 disliked"
    page.reload()
    assert page.text_content("#counts") == "1 liked, 1 disliked"  # uploads are gone
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert barriers(page) == []
    page.close()
    assert [text for text in told if "400" not in text] == []  # refused requests
    assert not [sent for sent in asked if not sent.startswith((url, "data:", "blob:"))]


def test_messages_are_added_removed_and_read(chromium, tmp_path, looks):
    from pmg.studio.app.studio import Studio, build_app

    scenario = pmg.instantiate(pmg.compose("generate", ["scenario=chat_sticker", "run_dir=unused"]).scenario)
    studio = Studio(load_tiny(tmp_path / "pipeline", scenario), looks, 2, 4, [1.0], 0)
    with served(build_app(studio)) as url:
        page = chromium.new_page(viewport={"width": 390, "height": 844})
        page.goto(url)
        for text in ("I love <b>red</b>.", "I can't stand dots."):
            page.fill("#message", text)
            page.press("#message", "Enter")
        assert page.locator("#said li").count() == 2
        assert page.locator("#said b").count() == 0
        page.click("#said button >> nth=1")
        assert page.locator("#said li").count() == 1
        page.select_option("#other", "")
        page.click("#generate")
        page.locator("#step", has_text="done").wait_for(timeout=60_000)
        assert page.locator("#owners img").count() == 2
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert barriers(page) == []
        page.close()
