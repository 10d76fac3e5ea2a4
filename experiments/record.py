"""Records a study's outputs in this folder and puts its table into the README: no number is typed by hand.

python experiments/record.py outputs/demo demo
python experiments/record.py outputs/studies/faithfulness faithfulness
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = ("results.json", "rows.parquet", "table.md")
SHOWN = "contact_sheet.png"  # a study with pictures has its first table in the project's README, too


def record(source: Path, study: str) -> None:
    """Copies `source`'s results to ``experiments/STUDY`` and its tables between the markers of the READMEs.

    The project's README gets the first table alone: a newcomer reads the rest where the study lives.
    """
    folder = HERE / study
    folder.mkdir(exist_ok=True)
    shown = (source / SHOWN).exists()
    for name in (*FILES, *([SHOWN] if shown else [])):
        shutil.copy(source / name, folder / name)
    tables = (folder / "table.md").read_text().strip()
    if shown:
        first, footnote = tables.split("\n\n## ")[0], tables.split("\n\n")[-1]
        fill(HERE.parent / "README.md", study, f"{first}\n\n{footnote}")
    fill(folder / "README.md", study, tables)


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
