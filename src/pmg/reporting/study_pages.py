"""Recorded tables of studies: results beside a README, whose tables are written between markers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from pmg.cache import atomic_write_bytes, atomic_write_json, atomic_write_text
from pmg.domain import PmgError
from pmg.evaluation.table_rendering import MINUS
from pmg.installation import find_assets
from pmg.runs.content import digest_path

README = "README.md"
CONTENTS = "content"  # in recorded results: digests of what the runs read, by its place
ASSETS = "<assets_dir>"  # in the place of weights and data that are shipped
FILES = ("results.json", "rows.parquet", "table.md")  # of a run's results
OVERVIEW = "overview.webp"  # a part of the contact sheet
SHEET = "contact_sheet.webp"  # of a study that generates images
QUALITY = 90  # of recorded pictures: a fifth of the bytes of PNG, drawings and letters stay sharp


def copy_results(source: Path, folder: Path, name: str) -> None:
    """Copies a run's results and contact sheet into a study's folder, and its tables into the README there.

    Raises:
        PmgError: `folder` has no README with markers of `name`, or `source` lacks a result; nothing was written.
    """
    if missing := [file for file in FILES if not (source / file).is_file()]:
        raise PmgError(f"{source} has no {' and no '.join(missing)}. Run the study first: make {folder.name}.")
    tables = (source / "table.md").read_text()
    filled = fill_text(folder / README, name, tables)
    for file in FILES:
        atomic_write_bytes(folder / file, (source / file).read_bytes())
    if (sheet := source / "contact_sheet.png").exists():
        image = Image.open(sheet).convert("RGB")
        image.save(folder / SHEET, quality=QUALITY)
        crop_sheet(image).save(folder / OVERVIEW, quality=QUALITY)
    atomic_write_text(folder / README, filled)


def write_study(into: Path, name: str, results: Mapping[str, Any], table: str) -> None:
    """Writes results.json and table.md, each whole or not at all, and the table into the README there if there is one.

    Args:
        into: the folder; made if it is missing.
        name: of the README's markers.
        results: what JSON can hold.
        table: in Markdown.
    """
    atomic_write_json(into / "results.json", results)
    atomic_write_text(into / "table.md", table)
    if (into / README).exists():
        fill(into / README, name, table)


def digest_assets(*names: str) -> dict[str, str]:
    """Returns the digests of folders of embedded weights and data by place, as recorded results have them."""
    digests = {name: digest_path(Path(find_assets(), name)) for name in names}
    return {f"{ASSETS}/{name}": digest for name, digest in digests.items() if digest}


def fill(page: Path, name: str, table: str) -> None:
    """Writes `table` between the page's markers of `name`; the file is written whole or not at all."""
    atomic_write_text(page, fill_text(page, name, table))


def fill_text(page: Path, name: str, table: str) -> str:
    """Returns the page's text with `table` between its markers; PmgError if it has none."""
    if not page.is_file():
        raise PmgError(f"{page} is missing. Write the study's page first, with <!-- {name}-table --> in it.")
    pattern = rf"(<!-- {name}-table -->).*?(<!-- end of {name}-table -->)"
    text, count = re.subn(
        pattern, lambda match: f"{match[1]}\n{table.strip()}\n{match[2]}", page.read_text(), flags=re.DOTALL
    )
    if not count:
        raise PmgError(f"{page} has no markers for a table: '{name}'. Write <!-- {name}-table --> and its end.")
    return text


def to_markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], names: int = 1) -> str:
    """Returns a table in Markdown, whose first columns are `names` and whose others are numbers."""
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * names + "---:|" * (len(head) - names), *lines[1:]]) + "\n"


def format_interval(found: Mapping[str, float], sign: str = "", digits: int = 3) -> str:
    """Returns a mean with its interval, e.g. ``0.25 [0.20, 0.30]``.

    Args:
        found: ``mean``, ``low`` and ``high``.
        sign: ``+``: differences, all of which have a sign.
        digits: behind the point.
    """
    mean, low, high = (f"{found[name]:{sign}.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]".replace("-", MINUS)


def crop_sheet(image: Image.Image) -> Image.Image:
    """Returns the first group of users of a contact sheet: what is above the second horizontal line."""
    lines = [
        y
        for y in range(image.height)
        if sum(image.crop((0, y, image.width, y + 1)).convert("L").histogram()[:235]) > 0.9 * image.width
    ]
    return image.crop((0, 0, image.width, lines[1] if len(lines) > 1 else image.height))
