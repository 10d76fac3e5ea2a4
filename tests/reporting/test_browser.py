"""Reports of real tiny runs in a real browser, without a server."""

from __future__ import annotations

import contextlib
import itertools
import re
from pathlib import Path

import pytest

from browsers import IN_BROWSER, barriers
from commands import FEW, read_by, run_here
from pmg.reporting.report import build_report, render
from runs import write_rows, write_run

pytestmark = IN_BROWSER
TINY = [
    "language_model=tiny", "text_encoder=tiny", "generator=tiny", "scorer=tiny", "trainer=cpu", "trainer.max_steps=2",
    "trainer.val_check_interval=1", "split_sizes={train: 8, validation: 4, test: 4}", "objective.users_per_step=4",
    "objective.batches.draws=2", "sampling.steps=2", "sampling.batch_size=4", "sheet_users=4",
    "paths.cache_dir=cache", "method=real", "metrics=distances",
    *FEW,
]  # fmt: skip
EVIL = "<script>document.title = 'broken'<!script>"  # a folder's name holds no slash


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """The page of two studies that differ in alpha, a failed run and a damaged one."""
    place = tmp_path_factory.mktemp("report")

    def pmg(verb, *arguments):
        done = run_here(verb, *read_by(verb, arguments))
        assert done.returncode == 0, done.stderr[-2000:]

    with contextlib.chdir(place):
        pmg("study", "-m", *TINY, "run_dir=runs", "balance.alpha=0.0,1.0")
        write_run(place / "runs" / EVIL, status="failed", error=f"ValueError: {EVIL.replace('!', '/')}")
        (place / "runs" / "damaged").mkdir()
        (place / "runs" / "damaged" / "metrics.json").write_text("{")
        pmg("report", "runs", "--into", "report")
    return place / "report" / "index.html"


@pytest.fixture
def page(chromium, index):
    """The page, opened from disk; fails on anything in the console and any request beside the file itself."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    told, asked = [], []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(index.as_uri())
    yield page
    page.close()
    assert told == []
    assert [address for address in asked if not address.startswith("data:")] == [index.as_uri()]


def column(page, table, number):
    return page.eval_on_selector_all(
        f"{table} tbody tr", f"rows => rows.map(row => row.cells[{number}].textContent.trim())"
    )


def test_every_image_is_shown_and_named(page):
    images = page.eval_on_selector_all("img", "all => all.map(image => [image.naturalWidth, image.alt])")
    assert len(images) >= 2 * 4 * (4 + 2) + 2  # two runs, four users, four methods, history, truth; effects and alpha
    assert all(width > 0 and alt for width, alt in images)


def test_texts_of_runs_are_texts(page):
    assert page.title().startswith("4 runs")
    assert EVIL in column(page, "#problems table", 0)
    assert f"ValueError: {EVIL.replace('!', '/')}" in column(page, "#problems table", 3)
    assert "damaged" in column(page, "#problems table", 2)


def test_tables_are_sorted_by_click_and_by_keyboard(page):
    table = "#means-1"
    heads = [text.strip() for text in page.locator(f"{table} thead th").all_text_contents()]
    place = next(number for number, text in enumerate(heads) if text.startswith("LPIPS to truth"))
    head = page.locator(f"{table} thead th").nth(place)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    shown = [float(text.split()[0]) for text in column(page, table, place)]
    assert shown == sorted(shown)
    assert shown[0] < shown[-1]
    page.keyboard.press("Enter")  # the button has the focus
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(text.split()[0]) for text in column(page, table, place)] == shown[::-1]
    first = page.locator(f"{table} thead th").nth(0)
    first.locator("button").focus()
    page.keyboard.press("Space")
    assert (first.get_attribute("aria-sort"), head.get_attribute("aria-sort")) == ("ascending", None)
    assert column(page, table, 0) == sorted(column(page, table, 0))


def test_a_sample_opens_its_record_and_gives_the_focus_back(page):
    sample = page.locator("button.sample").first
    sample.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog")
    assert dialog.is_visible()
    facts = dict(zip(dialog.locator("dt").all_text_contents(), dialog.locator("dd").all_text_contents(), strict=True))
    assert {"user", "method", "target", "weights", "scores"} <= set(facts)
    assert facts["user"] in dialog.locator("h2").text_content()
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.evaluate("document.activeElement.className") == "sample"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(page, scheme):
    page.set_viewport_size({"width": 400, "height": 800})
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    style = "getComputedStyle(document.body)"
    colours = page.evaluate(f"[{style}.color, {style}.backgroundColor]")
    brightness = [sum(map(int, re.findall(r"\d+", colour))) for colour in colours]
    assert abs(brightness[0] - brightness[1]) > 450


def test_the_report_is_small(index):
    assert index.stat().st_size < 5 * 2**20
    assert Path(index.parent, "figures", "alpha.png").is_file()


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """The page of six studies that differ in five keys."""
    place = tmp_path_factory.mktemp("wide")
    for number, (tokens, length) in enumerate(itertools.product((2, 4, 8), (0, 6))):
        config = {
            "preference_encoder.soft_tokens": tokens,
            "preference_encoder.prefix_length": length,
            "objective.module.ema_decay": [0.9, 0.99][number % 2],
            "scenario.name": ["looks", "other", "third"][number % 3],
            "trainer.max_steps": [100, 200, 400, 800][number % 4],
        }
        run = write_run(place / "runs" / str(number), "study", config=config, metrics={"val/denoise": 0.1})
        write_rows(run, [0.1 + 0.02 * number, 0.2])
    report, _ = build_report([place / "runs"], "pmg-report runs")
    (place / "index.html").write_text(render(report))
    return place / "index.html"


@pytest.mark.parametrize("width", [1280, 390])
def test_varied_keys_leave_the_metrics_on_the_screen(chromium, wide, tmp_path, width):
    page = chromium.new_page(viewport={"width": width, "height": 900})
    page.goto(wide.as_uri())
    page.screenshot(path=tmp_path / f"report-{width}.png")
    assert (tmp_path / f"report-{width}.png").stat().st_size > 10_000
    row = page.locator("#means-1 tbody tr").first
    name, metric = row.locator("th").inner_text(), row.locator("td.number").first.bounding_box()
    assert name.startswith(("none", "pmg_paper"))
    assert {"preference_encoder.soft_tokens = 2", "scenario.name = looks"} <= set(name.split("\n"))
    assert metric["x"] + metric["width"] <= width
    page.locator("#means-1").locator("xpath=..").evaluate("area => area.scrollLeft = 1000")
    assert row.locator("th").bounding_box()["x"] >= 0  # it stays
    assert all(text.startswith("runs/") for text in column(page, "#runs table", 0))
    page.close()


def test_columns_are_chosen_by_the_reader(chromium, wide):
    page = chromium.new_page()
    page.goto(wide.as_uri())
    shown = "all => all.filter(head => head.offsetWidth).map(head => head.textContent.trim())"
    heads = page.locator("#means-1 thead th")
    assert "trainer.max_steps" not in heads.evaluate_all(shown)
    page.locator("details.columns summary").first.click()
    page.get_by_label("trainer.max_steps").first.check()
    page.get_by_label("style accuracy").first.uncheck()
    assert "trainer.max_steps" in heads.evaluate_all(shown)
    assert not [text for text in heads.evaluate_all(shown) if text.startswith("style accuracy")]
    page.close()


def test_the_pages_have_no_serious_barrier(chromium, index, wide):
    context = chromium.new_context(bypass_csp=True)  # axe is a script of its own
    page = context.new_page()
    for path in (index, wide):
        page.goto(path.as_uri())
        assert barriers(page) == []
    context.close()
