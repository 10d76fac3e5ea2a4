"""The report as one HTML file that needs no server, no network and no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pmg.data_uri import data_uri
from pmg.evaluation.table_rendering import Table
from pmg.html_document import render_document
from pmg.reporting.samples import Grid

GENERATOR = "pmg-report"


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Attributes:
        name: of its file, without ending.
        title: of its section.
        text: what it shows, also for those who don't see it.
        content: PNG.
    """

    name: str
    title: str
    text: str
    content: bytes

    @property
    def size(self) -> tuple[int, int]:
        """Returns width and height in pixels from the header of a PNG."""
        return int.from_bytes(self.content[16:20], "big"), int.from_bytes(self.content[20:24], "big")


@dataclass(frozen=True)
class Report:
    """All that a page shows.

    Attributes:
        title: of the page.
        summary: tables of means.
        pictures: figures.
        grids: samples of runs.
        runs: table of all runs.
        problems: table of runs that count in no mean, with the reason.
        footnote: how to read the tables of means.
        origin: how the page was made, by name.
    """

    title: str
    summary: Sequence[Table]
    pictures: Sequence[Picture]
    grids: Sequence[Grid]
    runs: Table
    problems: Table
    footnote: str
    origin: Mapping[str, str]


def render(report: Report) -> str:
    """The page. Texts of runs are escaped, and its policy lets no script run but its own."""
    return render_document("pmg.reporting", "page", report=report, generator=GENERATOR, data_uri=data_uri)
