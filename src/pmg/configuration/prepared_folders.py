"""Folders into which ``pmg-prepare`` wrote data sets, recorded in the data folder for the commands that read them."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pmg.cache import atomic_write_json
from pmg.domain import PmgError
from pmg.paths import is_same_folder

RECORD = "prepared.json"


def find_prepared(option: str, data_dir: str) -> str:
    """Returns the recorded folder of an option of ``data``, else that of its name; PmgError for a damaged record."""
    return _read(Path(data_dir, RECORD)).get(option, str(Path(data_dir, option)))


def record_prepared(option: str, folder: str, data_dir: str) -> None:
    """Records where a data set was prepared; forgets an earlier place where that is the default."""
    path = Path(data_dir, RECORD)
    recorded = _read(path)
    found = {name: place for name, place in recorded.items() if name != option}
    if not is_same_folder(folder, Path(data_dir, option)):
        found[option] = os.path.abspath(folder)
    if found != recorded:
        atomic_write_json(path, found)


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text()) if path.is_file() else {}
    except ValueError:
        found = None
    if not (isinstance(found, dict) and all(isinstance(folder, str) for folder in found.values())):
        raise PmgError(f"{path} is damaged. Delete it and run pmg-prepare again.")
    return found
