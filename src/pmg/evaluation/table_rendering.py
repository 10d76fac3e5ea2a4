"""Tables with titles, shown as Markdown or in a console."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

MINUS, NOTHING = "\N{MINUS SIGN}", "\N{EN DASH}"


@dataclass(frozen=True)
class Cell:
    """A table's cell: its text, whether it is the best of its column, and the number it is sorted by, if any."""

    text: str
    best: bool = False
    number: float | None = None


@dataclass(frozen=True)
class Table:
    """A titled table; the first columns, as many as `names`, hold the names of rows."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    names: int = 1


def to_markdown(tables: Sequence[Table], footnote: str) -> str:
    """Returns the tables as Markdown, best values in bold, with the footnote."""
    return "\n".join([*(_markdown(table) for table in tables), footnote, ""])


def print_table(table: Table, footnote: str, console: Console) -> None:
    """Prints a table in a console, a star before the best values, with the footnote; long texts wrap, uncut."""
    shown = RichTable(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0, header_style="dim")
    for number, name in enumerate(table.header):
        shown.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(f"*{cell.text}", style="bold green") if cell.best else Text(cell.text) for cell in row))
    console.print(Text(table.title, style="bold"))  # a table's own title wraps at the table's width
    console.print(shown)
    console.print(Text(footnote, style="dim"))


def _markdown(table: Table) -> str:
    lines = [table.header, ["---"] * table.names + ["---:"] * (len(table.header) - table.names)]
    lines += [[f"**{_escape(cell.text)}**" if cell.best else _escape(cell.text) for cell in row] for row in table.rows]
    return "\n".join([f"## {table.title}", "", *(f"| {' | '.join(line)} |" for line in lines), ""])


def _escape(text: str) -> str:
    """Returns a text that stays within its cell."""
    return " ".join(text.split()).replace("|", "\\|")
