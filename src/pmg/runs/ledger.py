"""The costs of a run."""

from __future__ import annotations

import contextlib
import logging
import textwrap
import time
from collections.abc import Iterator, Mapping
from typing import Any

from pmg.runs.provenance import peak_memory

log = logging.getLogger(__name__)
TOTAL = "total"  # the phase of the whole run
CONSOLE_WIDTH = 80


class Ledger:
    """Cost of a run: seconds per phase and counts (LLM tokens, denoiser evaluations, …)."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.earlier: Mapping[str, float] = {}  # seconds of the sessions that this one resumes
        names = ("trainable_parameters", "llm_tokens_computed", "llm_tokens_reused", "denoiser_evaluations")
        self.counts: dict[str, int] = dict.fromkeys(names, 0)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the time spent inside to phase `name`, also after an error; logs the name when it is first entered."""
        if name not in self.seconds and name != TOTAL:
            log.info(name)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def count(self, name: str, amount: int) -> None:
        """Adds `amount` to counter `name`."""
        self.counts[name] = self.counts.get(name, 0) + int(amount)

    def count_nested(self, ledger: Mapping[str, Any]) -> None:
        """Adds the counts of the ledger of a run inside this one, as ``metrics.json`` has it."""
        for name, amount in ledger.items():
            if isinstance(amount, int):  # no seconds
                self.count(name, amount)

    def as_dict(self) -> dict[str, Any]:
        """Returns seconds per phase, earlier sessions' included, counts, and peak memory so far, JSON-able."""
        phases = {**self.earlier, **self.seconds}
        seconds = {name: round(self.seconds.get(name, 0) + self.earlier.get(name, 0), 3) for name in phases}
        return {"seconds": seconds, **self.counts, "peak_memory": peak_memory()}

    def summarize(self) -> str:
        """Returns the seconds of a completed run and of its phases, in lines of `CONSOLE_WIDTH`."""
        phases = ", ".join(f"{name} {value:.1f}" for name, value in self.seconds.items() if name != TOTAL)
        line = f"completed in {self.seconds[TOTAL]:.1f} s" + (f": {phases}" if phases else "")
        return "\n  ".join(textwrap.wrap(line, CONSOLE_WIDTH - 2))
