"""Records a study's outputs in this folder and puts its table into the README there: no number is typed by hand.

python experiments/record.py outputs/demo demo
python experiments/record.py outputs/studies/faithfulness faithfulness
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from pmg.cache import atomic_write_bytes, atomic_write_json, atomic_write_text
from pmg.evaluation.table_rendering import MINUS

HERE = Path(__file__).resolve().parent
FILES = ("results.json", "rows.parquet", "table.md")
OVERVIEW = "overview.webp"  # the README's picture
SHOWN = "contact_sheet.webp"  # of a study that generates images
QUALITY = 90  # of recorded pictures: a fifth of the bytes of PNG, drawings and letters stay sharp


def record(source: Path, study: str) -> None:
    """Copies `source`'s results to ``experiments/STUDY`` and its tables between the markers of its README.

    Raises:
        SystemExit: there is no such study, or `source` lacks a result; nothing has been written then.
    """
    folder = HERE / study
    if not (folder / "README.md").is_file():
        raise SystemExit(f"{folder} has no README.md; name a study, or write its page first")
    if missing := [name for name in FILES if not (source / name).is_file()]:
        raise SystemExit(f"{source} has no {' and no '.join(missing)}; run the study first, e.g. make demo")
    tables = (source / "table.md").read_text()
    filled(folder / "README.md", study, tables)
    for name in FILES:
        atomic_write_bytes(folder / name, (source / name).read_bytes())
    if (sheet := source / "contact_sheet.png").exists():
        image = Image.open(sheet).convert("RGB")
        image.save(folder / SHOWN, quality=QUALITY)
        crop(image).save(folder / OVERVIEW, quality=QUALITY)
    fill(folder / "README.md", study, tables)


def write_study(into: Path, study: str, results: Mapping[str, Any], table: str) -> None:
    """Writes results.json and table.md, each whole or not at all, and the table into the README there if there is one.

    Args:
        into: the folder; made if it is missing.
        study: name of the README's markers.
        results: what JSON can hold.
        table: in Markdown.
    """
    atomic_write_json(into / "results.json", results)
    atomic_write_text(into / "table.md", table)
    if (into / "README.md").exists():
        fill(into / "README.md", study, table)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], names: int = 1) -> str:
    """Returns a table in Markdown, whose first columns are `names` and whose others are numbers."""
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * names + "---:|" * (len(head) - names), *lines[1:]]) + "\n"


def show(found: Mapping[str, float], sign: str = "", digits: int = 3) -> str:
    """Returns a mean with its interval, as tables have it.

    Args:
        found: ``mean``, ``low`` and ``high``.
        sign: ``+``: differences, all of which have a sign.
        digits: behind the point.
    """
    mean, low, high = (f"{found[name]:{sign}.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]".replace("-", MINUS)


def crop(image: Image.Image) -> Image.Image:
    """Returns the first group of users of a contact sheet: what is above the second horizontal line."""
    lines = [
        y
        for y in range(image.height)
        if sum(image.crop((0, y, image.width, y + 1)).convert("L").histogram()[:235]) > 0.9 * image.width
    ]
    return image.crop((0, 0, image.width, lines[1] if len(lines) > 1 else image.height))


def fill(readme: Path, study: str, table: str) -> None:
    """Puts `table` between the file's markers; the file is written whole or not at all."""
    atomic_write_text(readme, filled(readme, study, table))


def filled(readme: Path, study: str, table: str) -> str:
    """Returns the file's text with `table` between its markers; SystemExit if it has none."""
    pattern = rf"(<!-- {study}-table -->).*?(<!-- end of {study}-table -->)"
    text, count = re.subn(
        pattern, lambda match: f"{match[1]}\n{table.strip()}\n{match[2]}", readme.read_text(), flags=re.S
    )
    if not count:
        raise SystemExit(f"{readme} has no markers for the table of '{study}'")
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of the study's results")
    parser.add_argument("study", help="folder here that they are recorded in")
    options = parser.parse_args()
    record(options.source, options.study)
