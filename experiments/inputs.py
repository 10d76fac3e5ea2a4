"""Gives commands what people get wrong; each must answer with one clear line and not with a stack trace."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import yaml
from stages import exit_code

from pmg.commands.pmg import find_commands

INPUTS = Path(__file__).resolve().parent / "faults" / "inputs.yaml"
TINY = [
    "language_model=tiny",
    "preference_encoder=text",
    "text_encoder=tiny",
    "generator=tiny",
    "scorer=tiny",
    "paths.cache_dir=cache",
]


@dataclass(frozen=True)
class Answer:
    """What a command said.

    Attributes:
        command: as it was typed.
        expected: words that the line must hold.
        code: exit code.
        lines: on stderr, progress bars left out.
        unchanged: whether the run folder that it named, if there was one, holds what it held before.
    """

    command: str
    expected: str
    code: int
    lines: tuple[str, ...]
    unchanged: bool = True

    @property
    def clear(self) -> bool:
        """Whether it is one line, with the expected words, the command failed, and its run folder is unchanged."""
        one_line = self.code != 0 and len(self.lines) == 1 and self.expected in self.lines[0]
        return one_line and self.unchanged


def read_inputs(key: str = "inputs") -> Iterator[tuple[str, list[str], str]]:
    """Verb, arguments and expected words of every bad input.

    Args:
        key: ``inputs``, or ``folders``: those that need the finished runs of `stages.py` in the current folder.
    """
    for verb, cases in yaml.safe_load(INPUTS.read_text())[key].items():
        for arguments, expected in cases:
            yield verb, shlex.split(arguments), expected


def contents(folder: Path) -> dict[str, str]:
    """A digest of each file of a folder, by its path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in files}


def named_folder(verb: str, arguments: list[str]) -> Path:
    """The run folder that a command line names; that of `experiment=faults` is called as its command."""
    named = [text.partition("=")[2] for text in arguments if text.startswith("run_dir=")]
    return Path(named[-1] if named else verb)


def ask(verb: str, arguments: list[str], expected: str) -> Answer:
    """Runs a command in this process, from the current folder."""
    tiny = TINY if verb in ("train", "generate", "study") else []
    tiny = [] if any(text.startswith("pipeline=") for text in arguments) else tiny  # it has models of its own
    chosen = [text for text in tiny if not any(a.startswith(text.partition("=")[0] + "=") for a in arguments)]
    sys.argv = [f"pmg-{verb}", *chosen, *arguments]
    os.environ.pop("HYDRA_FULL_ERROR", None)  # a command sets it for itself
    stderr, code = io.StringIO(), 0
    folder = named_folder(verb, arguments)
    before = contents(folder)
    with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO()):
        try:
            find_commands()[verb].load()()
        except SystemExit as end:
            code = exit_code(end)
    lines = tuple(line for line in stderr.getvalue().splitlines() if line.strip() and "Loading weights" not in line)
    unchanged = not before or contents(folder) == before
    return Answer(shlex.join([f"pmg-{verb}", *arguments]), expected, code, lines, unchanged)


if __name__ == "__main__":
    every = int(sys.argv[1]) if len(sys.argv) > 1 else 1  # 3: a third of the cases
    for case in list(read_inputs())[::every]:
        answer = ask(*case)
        print("ok " if answer.clear else "BAD", answer.command, *answer.lines, sep=" | ", flush=True)
