"""Paths in messages."""

from __future__ import annotations

import os
from pathlib import Path


def display_path(path: str | Path) -> Path:
    """Returns a path relative to the current folder where it is inside, else in full."""
    full = Path(os.path.abspath(path))
    return full.relative_to(Path.cwd()) if full.is_relative_to(Path.cwd()) else full
