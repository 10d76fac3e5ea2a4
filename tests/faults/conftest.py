"""Records what became of faults: with ``--record`` the tests' reports are the tables of experiments/faults."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "experiments" / "faults"


def pytest_addoption(parser):
    parser.addoption("--record", action="store_true", help="put what became of faults into experiments/faults")


def pytest_configure(config):
    if config.getoption("--record") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Record())


class Record:
    """Notes of the tests' fixture `outcome`, and tables of them; kinds that didn't run stay as recorded."""

    def __init__(self):
        self.notes = {}

    def pytest_runtest_logreport(self, report):
        for name, (kind, part, case, became, said) in report.user_properties if report.when == "call" else ():
            if name == "fault":
                row = (part, case, "**failed**" if report.failed else became, said)
                self.notes.setdefault(kind, []).append(row)

    def pytest_sessionfinish(self):
        for kind, notes in self.notes.items():
            counts = Counter((part, became) for part, _, became, _ in notes)
            parts, outcomes = (list(dict.fromkeys(names)) for names in zip(*counts, strict=True))
            rows = [(part, *(counts[part, became] for became in outcomes)) for part in parts]
            fill("README.md", kind, [(kind, *outcomes), *rows])
            fill("cases.md", kind, [(kind, "case", "what became of it", "what was said"), *notes])


def fill(page, kind, rows):
    """Puts a table between the markers that a page has for a kind."""
    cells = [[str(cell).replace("|", "/").replace("\n", " ") for cell in row] for row in rows]
    table = "\n".join(f"| {' | '.join(row)} |" for row in (cells[0], ["---"] * len(cells[0]), *cells[1:]))
    start, end = f"<!-- {kind}-table -->\n", f"<!-- end of {kind}-table -->"
    before, _, rest = (PAGES / page).read_text(encoding="utf-8").partition(start)
    (PAGES / page).write_text(f"{before}{start}{table}\n{end}{rest.partition(end)[2]}", encoding="utf-8")


@pytest.fixture
def outcome(record_property):
    """Notes what became of a fault: its kind, where it is, the case, the outcome, and what was said."""

    def note(kind, part, case, became, said=""):
        said = re.sub(r"/\S*?/(attacked|hostile|faulty|runs\d*)\b/?|\x1b\[\w*|\0", "", said).replace(f"{ROOT}/", "")
        record_property("fault", (kind, part, case, became, said[:300]))

    return note
