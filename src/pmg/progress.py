"""Progress of long work: a bar in a terminal, and a line a minute in a log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from rich.progress import Progress, TimeElapsedColumn

log = logging.getLogger(__name__)
Element = TypeVar("Element")
EVERY = 60.0  # seconds between two lines
_BARS = ContextVar("bars", default=True)


@contextmanager
def no_bars() -> Iterator[None]:
    """Hides the bars of `track` within a block."""
    before = _BARS.set(False)
    try:
        yield
    finally:
        _BARS.reset(before)


def track(
    elements: Iterable[Element], description: str, total: int | None = None,
    size: Callable[[Element], int] | None = None,
) -> Iterator[Element]:  # fmt: skip
    """Yields elements, and shows how many were taken.

    `size` gives that of an element; None: each counts as 1. `total` is the sum of all sizes; None: computed where
    `elements` have a length.
    """
    weigh = size or (lambda _: 1)
    if total is None and isinstance(elements, Collection):
        total = sum(map(weigh, elements))
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    begin = logged = time.monotonic()
    done = 0
    with Progress(*columns, disable=not _BARS.get()) as progress:
        task = progress.add_task(description, total=total)
        for element in elements:
            yield element
            done += weigh(element)
            progress.update(task, completed=done)
            now = time.monotonic()
            if not progress.console.is_terminal and now - logged >= EVERY and done != total:
                logged = now
                log.info(describe_progress(description, done, total, now - begin))


def describe_progress(description: str, done: int, total: int | None, seconds: float) -> str:
    """Returns the line of a log: how much of `total` was done in so many seconds, and how long the rest will take."""
    rate = done / seconds
    if total is None:
        return f"{description}: {done:,} ({rate:.2g} a second)"
    return f"{description}: {done:,} of {total:,} ({rate:.2g} a second, {(total - done) / rate / 60:.0f} min left)"
