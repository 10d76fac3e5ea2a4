"""The documentation site: builds strictly, loads nothing from other hosts, is complete and accessible."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from browsers import barriers

PAGES = (
    "index.html", "studies/components.html", "reference/models.html", "reference/config/image_encoder.html",
    "reference/api/pmg.tracking.html",
)  # fmt: skip
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def address(site):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_nothing_is_loaded_from_other_hosts(site):
    loaded = re.compile(
        r"""<(?:script|img|iframe|source)[^>]+src=["']?(?:https?:)?//|<link[^>]+href=["']?(?:https?:)?//"""
    )
    assert not [path for path in site.rglob("*.html") if loaded.search(path.read_text())]
    styles = re.compile(r"""(?:url\(|@import)\s*["']?(?:https?:)?//""")
    assert not [path for path in site.rglob("*.css") if styles.search(path.read_text())]


def test_every_option_and_every_public_module_has_its_place(site, root):
    for path in (root / "conf").glob("*/**/*.yaml"):
        group, *inner = path.relative_to(root / "conf").with_suffix("").parts
        if group != "local":
            assert f'id="{"-".join(inner)}"' in (site / f"reference/config/{group}.html").read_text(), path
    for path in (root / "src/pmg").rglob("*.py"):
        parts = path.relative_to(root / "src").with_suffix("").parts
        if parts[-1] != "__init__" and not {"commands", "orchestration"} & {*parts}:
            page = site / f"reference/api/{'.'.join(parts[:-1])}.html"
            assert f'id="{".".join(parts)}"' in page.read_text(), path


def test_pages_have_no_serious_barrier_and_fit_a_phone(chromium, address):
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    found = {}
    for name in PAGES:
        page.set_viewport_size({"width": 1280, "height": 900})
        page.goto(f"{address}/{name}", wait_until="load")
        found[name] = barriers(page)
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
    page.close()
    assert {name: each for name, each in found.items() if each} == {}
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def test_the_table_of_models_can_be_filtered(chromium, address):
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{address}/reference/models.html")
    rows = page.locator("table tbody tr:visible")
    page.locator(".filters input").wait_for()
    everything = rows.count()
    page.get_by_label("group").select_option("generator")
    assert 5 < rows.count() < everything
    page.get_by_label("Filter rows").fill("apache klein")
    assert [row.inner_text().split()[:2] for row in rows.all()] == [["generator", "flux2_klein"]]
    page.get_by_label("Filter rows").fill("")
    page.get_by_label("group").select_option("")
    assert rows.count() == everything
    page.close()


def test_search_finds_a_key(chromium, address):
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{address}/index.html")
    page.locator("input[name=query]").fill("keep_contexts")
    result = page.locator(".md-search-result__link").first
    result.wait_for(timeout=20_000)
    assert "keep_contexts" in result.get_attribute("href")
    page.close()
