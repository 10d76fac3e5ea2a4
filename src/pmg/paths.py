"""Paths: in messages, and compared."""

from __future__ import annotations

import os
from pathlib import Path


def display_path(path: str | Path) -> Path:
    """Returns a path relative to the current folder where it is inside, else in full."""
    full = Path(os.path.abspath(path))
    return full.relative_to(Path.cwd()) if full.is_relative_to(Path.cwd()) else full


def is_same_folder(one: str | Path | None, other: str | Path | None) -> bool:
    """Returns whether two paths lead to the same folder; where one is missing, whether both are."""
    return Path(one).resolve() == Path(other).resolve() if one and other else not one and not other
