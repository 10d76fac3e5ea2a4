"""Records a study's outputs in this folder and puts its table into the README there: no number is typed by hand.

python experiments/record.py outputs/demo demo
python experiments/record.py outputs/studies/faithfulness faithfulness
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent
FILES = ("results.json", "rows.parquet", "table.md")
OVERVIEW = "overview.webp"  # the README's picture
SHOWN = "contact_sheet.webp"  # of a study that generates images
QUALITY = 90  # of recorded pictures: a fifth of the bytes of PNG, drawings and letters stay sharp


def record(source: Path, study: str) -> None:
    """Copies `source`'s results to ``experiments/STUDY`` and its tables between the markers of its README."""
    folder = HERE / study
    folder.mkdir(exist_ok=True)
    for name in FILES:
        shutil.copy(source / name, folder / name)
    if (sheet := source / "contact_sheet.png").exists():
        image = Image.open(sheet).convert("RGB")
        image.save(folder / SHOWN, quality=QUALITY)
        crop(image).save(folder / OVERVIEW, quality=QUALITY)
    tables = (folder / "table.md").read_text().strip()
    fill(folder / "README.md", study, tables)


def crop(image: Image.Image) -> Image.Image:
    """Returns the first group of users of a contact sheet: what is above the second horizontal line."""
    lines = [
        y
        for y in range(image.height)
        if sum(image.crop((0, y, image.width, y + 1)).convert("L").histogram()[:235]) > 0.9 * image.width
    ]
    return image.crop((0, 0, image.width, lines[1] if len(lines) > 1 else image.height))


def fill(readme: Path, study: str, table: str) -> None:
    """Puts `table` between the file's markers."""
    pattern = rf"(<!-- {study}-table -->).*?(<!-- end of {study}-table -->)"
    text, count = re.subn(
        pattern, lambda match: f"{match[1]}\n{table.strip()}\n{match[2]}", readme.read_text(), flags=re.S
    )
    if not count:
        raise SystemExit(f"{readme} has no markers for the table of '{study}'")
    readme.write_text(text)


if __name__ == "__main__":
    record(Path(sys.argv[1]), sys.argv[2])
