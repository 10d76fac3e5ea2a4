"""The order in which people expect names with numbers."""

from __future__ import annotations

import re


def natural_key(value: object) -> list[tuple[int, float, str]]:
    """Returns a key for `sorted` by which ``run-10`` follows ``run-9.5``.

    Args:
        value: a path, a number or another object; its text is compared.
    """
    parts = re.split(r"(\d+(?:\.\d+)?)", str(value))
    return [(0, float(part), "") if place % 2 else (1, 0.0, part) for place, part in enumerate(parts)]
