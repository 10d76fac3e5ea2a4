"""The page and its command; a browser opens it in test_browser.py."""

from __future__ import annotations

import base64
import json
import re
import sys
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from pmg.commands import report as command
from runs import record, write_records, write_rows, write_run

EVIL = "<script>alert(1)</script>'\"|&"


class Reader(HTMLParser):
    """Collects tags, what they refer to, and the texts of samples."""

    def __init__(self):
        super().__init__()
        self.tags, self.links, self.facts, self.texts = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        values = dict(attrs)
        self.links += [values[name] for name in ("src", "href") if values.get(name)]
        assert not [name for name in values if name.startswith("on")]
        if "data-facts" in values:
            self.facts.append(json.loads(values["data-facts"]))

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs ``pmg-report`` in this process; returns exit code, stdout and stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["pmg-report", *map(str, arguments)])
        try:
            command.main()
            code = 0
        except SystemExit as error:
            code = error.code
        return (code, *capsys.readouterr())

    return call


@pytest.fixture
def runs(tmp_path):
    """Two evaluated studies with samples, the name of one being markup, and a failed one."""
    for number, name in enumerate(("plain", f"{EVIL.replace('/', '')}")):
        config = {"style": ["plain", EVIL][number], "balance.combination.logarithms": True}
        folder = write_run(tmp_path / "runs" / name, "study", config=config)
        write_rows(folder, [0.1, 0.2 + number])
        write_records(
            folder / "generate", [record(f"u{n}", [(0.2, 0.4), (0.3, 0.2)], words=(EVIL,)) for n in range(2)]
        )
        write_run(folder / "generate", "generate")
    write_run(tmp_path / "runs" / "bad", status="failed", error=f"ValueError: {EVIL}")
    return tmp_path / "runs"


def test_report_holds_all_and_refers_to_nothing_outside(run, runs, tmp_path):
    into = tmp_path / "into"
    code, out, err = run(runs, "--into", into)
    assert (code, out, err) == (0, f"{into / 'index.html'}\n", "")
    assert {path.name for path in into.iterdir()} == {
        "index.html",
        "summary.md",
        "table.parquet",
        ".pmg.json",
        "table.csv",
        "figures",
    }
    html = (into / "index.html").read_text()
    page = Reader()
    page.feed(html)
    assert page.tags.count("script") == 1
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert page.tags.count("img") == len(list((into / "figures").iterdir())) + 4
    assert page.facts[0]["preference"] == EVIL
    assert f"ValueError: {EVIL}" in page.texts
    script = re.search(r"<script>(.*)</script>", html, re.DOTALL)[1]
    assert f"script-src 'sha256-{base64.b64encode(sha256(script.encode()).digest()).decode()}'" in html
    assert "| ValueError: <script>alert(1)</script>'\"\\|& |" in (into / "summary.md").read_text()


def test_candidates_that_are_kept_by_another_z_have_no_curve(run, tmp_path):
    for name, logarithms in (("paper", True), ("sum", False)):
        folder = write_run(tmp_path / name, "study", config={"balance.combination.logarithms": logarithms})
        write_rows(folder, [0.1, 0.2])
        write_records(folder / "generate", [record(f"u{n}", [(0.2, 0.4), (0.3, 0.2)]) for n in range(2)])
        write_run(folder / "generate", "generate")
        assert run(folder, "--into", tmp_path / f"report {name}")[0] == 0
        assert (tmp_path / f"report {name}" / "figures" / "alpha.png").exists() == logarithms


def test_a_later_report_replaces_the_earlier_one_and_nothing_else(run, runs, tmp_path):
    into = tmp_path / "into"
    assert run(runs, "--into", into)[0] == 0
    assert len(list((into / "figures").iterdir())) > 1
    write_run(tmp_path / "single", metrics={"val/denoise": 0.1})
    assert run(tmp_path / "single", "--into", into)[0] == 0
    assert not list((into / "figures").iterdir())
    assert "Judged" not in (into / "summary.md").read_text()
    code, _, err = run(runs, "--into", runs)
    assert code == 1
    assert err == f"error: --into {runs} holds something else than a report; name a new folder\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: RUNS, or --study NAME"),
        (["runs", "--study", "demo"], "argument --study: not allowed with RUNS"),
        (["--study", "demoo"], "unknown study: 'demoo'. Name one of "),
        (["nowhere"], "nowhere is no folder"),
        (["empty"], "empty holds no run"),
        (["broken"], "metrics.json or config.yaml is damaged"),
        (["runs", "--onto", "x"], "unrecognized arguments: --onto x"),
        (["runs", "--into", "file"], "--into file is a file"),
        (["runs", "--into", "/proc/nope"], "can't write /proc/nope"),
    ],
)
def test_mistake_gets_one_line_and_exit_code_1(run, runs, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "metrics.json").write_text("[]")
    (tmp_path / "file").write_text("")
    code, _, err = run(*arguments)
    assert code == 1
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    assert message in err
