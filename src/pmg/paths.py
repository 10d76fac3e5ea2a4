"""Paths: in messages, compared, and in order."""

from __future__ import annotations

import os
import re
from pathlib import Path


def display_path(path: str | Path) -> Path:
    """Returns a path relative to the current folder where it is inside, else in full."""
    full = Path(os.path.abspath(path))
    return full.relative_to(Path.cwd()) if full.is_relative_to(Path.cwd()) else full


def is_same_folder(one: str | Path | None, other: str | Path | None) -> bool:
    """Returns whether two paths lead to the same folder; where one is missing, whether both are."""
    return Path(one).resolve() == Path(other).resolve() if one and other else not one and not other


def natural_key(value: object) -> list[tuple[int, float, str]]:
    """Returns a key for `sorted` by which the text of a path or number ``run-10`` follows ``run-9.5``."""
    parts = re.split(r"(\d+(?:\.\d+)?)", str(value))
    return [(0, float(part), "") if place % 2 else (1, 0.0, part) for place, part in enumerate(parts)]
