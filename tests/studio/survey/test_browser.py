"""The page in a real browser, from the first to the last task: from disk and served, at desk and phone width."""

from __future__ import annotations

import json

import pytest

from browsers import IN_BROWSER, served
from pmg.studio.survey.answers import DATABASE, read_answers
from pmg.studio.survey.materials import write_survey
from surveys import EVIL, make_survey

pytestmark = [*IN_BROWSER, pytest.mark.ci]
SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}


@pytest.fixture
def survey(tmp_path):
    content, key = make_survey(items=5, raters=2, pairs=3, ratings=2, checks=2, evil=True)
    write_survey(tmp_path, content, key)
    return tmp_path, key


@pytest.fixture
def page(request, chromium):
    """A new page; fails on anything in its console, and on a request to another address."""
    context = chromium.new_context(viewport=SIZES[request.param], has_touch=request.param == "phone")
    page, told, asked = context.new_page(), [], []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda sent: asked.append(sent.url))
    yield page
    context.close()
    assert [text for text in told if "503" not in text] == []  # a test makes the server refuse an answer
    assert not [url for url in asked if not url.startswith(("data:", "file:", "blob:", "http://127.0.0.1:"))]


both = pytest.mark.parametrize("page", list(SIZES), indirect=True)


def start(page):
    assert page.locator("button", has_text="Start").is_disabled()
    page.check("#agree")
    page.click("text=Start")
    page.wait_for_selector(".step")


def do_task(page):
    """Does the task that is shown; returns the answer."""
    step = page.text_content(".step")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert EVIL in page.text_content(".target")
    loaded = "all => all.map(image => image.complete && image.naturalWidth > 0)"
    assert all(page.eval_on_selector_all("main img", loaded))
    assert page.locator("button.next").is_disabled()
    if page.locator(".scale").count():
        for number, grade in enumerate((2, 5)):
            page.locator(".scale").nth(number).locator("button", has_text=str(grade)).click()
        value = {"accuracy": 2, "preference": 5}
    else:
        question = page.text_content("main > p:not(.step):not(.error)")
        named = [side for side, text in (("left", "“Left”"), ("right", "“Right”"), ("tie", "“No")) if text in question]
        value = named[0] if named else "right"
        page.click(f"button[data-value={value}]")
    page.dblclick("button.next")
    changed = "step => { const shown = document.querySelector('.step'); return !shown || shown.textContent !== step; }"
    page.wait_for_function(changed, arg=step)
    return value


@both
def test_from_disk_to_a_file_of_answers(page, survey):
    folder, key = survey
    page.goto(f"{(folder / 'survey.html').as_uri()}#2")
    start(page)
    given = [do_task(page), do_task(page)]
    assert not page.locator("text=doesn't keep answers").count()
    page.reload()
    given += [do_task(page) for _ in key["plans"][1][2:]]
    assert "Thank you" in page.text_content("h1")
    assert page.title() == "Which picture?"
    with page.expect_download() as download:
        page.click("text=Save answers")
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    (rater,) = read_answers([path], key["survey"])
    assert (rater.slot, rater.rater in path.name) == (1, True)
    assert [answer.model_dump()["value"] for answer in rater.answers] == given
    assert json.loads(path.read_text()).keys() == {"survey", "rater", "slot", "consent", "answers"}


@pytest.mark.parametrize("page", ["phone"], indirect=True)
def test_raters_whose_browser_keeps_no_answers_are_told(page, survey):
    page.add_init_script("Storage.prototype.setItem = () => { throw new DOMException('full'); };")
    page.goto(f"{(survey[0] / 'survey.html').as_uri()}#2")
    start(page)
    do_task(page)
    assert page.locator("text=doesn't keep answers").is_visible()


@both
def test_served_into_the_database(page, survey):
    from pmg.studio.survey.materials import build_server

    folder, key = survey
    with served(build_server(folder)) as url:
        page.goto(url)
        start(page)
        do_task(page)
        (folder / DATABASE).rename(folder / "away")  # the next answer can't be written: nothing is lost
        (folder / DATABASE).mkdir()
        page.locator("button").first.wait_for()
        before = page.text_content(".step")
        if page.locator(".scale").count():
            for number in range(2):
                page.locator(".scale").nth(number).locator("button").first.click()
        else:
            page.click("button[data-value=left]")
        page.click("button.next")
        page.wait_for_selector(".error:not(:empty)")
        assert "press Next again" in page.text_content(".error")
        assert page.text_content(".step") == before
        (folder / DATABASE).rmdir()
        (folder / "away").rename(folder / DATABASE)
        page.reload()
        for _ in key["plans"][0][1:]:
            do_task(page)
        assert "Thank you" in page.text_content("h1")
        (rater,) = read_answers([folder / DATABASE], key["survey"])
        assert len(rater.answers) == len(key["plans"][0])
