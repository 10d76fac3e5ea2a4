"""Gives commands what people get wrong; each must answer with one clear line and not with a stack trace."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import yaml

INPUTS = Path(__file__).resolve().parent / "faults" / "inputs.yaml"
TINY = ["encoder=tiny", "text_encoder=tiny", "generator=tiny", "scorer=tiny", "paths.cache_dir=cache"]


@dataclass(frozen=True)
class Answer:
    """What a command said.

    Attributes:
        command: as it was typed.
        expected: words that the line must hold.
        code: exit code.
        lines: on stderr, progress bars left out.
    """

    command: str
    expected: str
    code: int
    lines: tuple[str, ...]

    @property
    def clear(self) -> bool:
        """Whether it is one line, with the expected words, and the command failed."""
        return self.code != 0 and len(self.lines) == 1 and self.expected in self.lines[0]


def read_inputs() -> Iterator[tuple[str, list[str], str]]:
    """Verb, arguments and expected words of every bad input."""
    for verb, cases in yaml.safe_load(INPUTS.read_text()).items():
        for arguments, expected in cases:
            yield verb, shlex.split(arguments), expected


def ask(verb: str, arguments: list[str], expected: str) -> Answer:
    """Runs a command in this process, from the current folder."""
    tiny = TINY if verb in ("train", "generate") else []
    chosen = [text for text in tiny if not any(a.startswith(text.partition("=")[0] + "=") for a in arguments)]
    sys.argv = [f"pmg-{verb}", *chosen, *arguments]
    os.environ.pop("HYDRA_FULL_ERROR", None)  # a command sets it for itself
    stderr, code = io.StringIO(), 0
    with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO()):
        try:
            import_module(f"pmg.commands.{verb}").main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    lines = tuple(line for line in stderr.getvalue().splitlines() if line.strip() and "Loading weights" not in line)
    return Answer(shlex.join([f"pmg-{verb}", *arguments]), expected, code, lines)


if __name__ == "__main__":
    for case in read_inputs():
        answer = ask(*case)
        print("ok " if answer.clear else "BAD", answer.command, *answer.lines, sep=" | ", flush=True)
