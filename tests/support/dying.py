"""Runs a command that kills itself before its n-th write into a folder: ``dying.py N FOLDER VERB ARGUMENTS``.

N = 0 lets it end. The number of writes goes into ``writes.txt`` in the current folder.
"""

from __future__ import annotations

import atexit
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

WRITING = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.copyfile", "shutil.copytree", "shutil.rmtree")


def count_writes(folder: Path, last: int) -> None:
    """Counts writes into a folder, before each happens; the process group is killed at number `last`, 0 is never."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        opened = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if not (opened or event in WRITING) or not any(_inside(argument, folder) for argument in arguments):
            return
        seen += 1
        if seen == last:
            os.killpg(os.getpgrp(), signal.SIGKILL)

    sys.addaudithook(hook)
    atexit.register(lambda: Path("writes.txt").write_text(str(seen)))


def _inside(path: Any, folder: Path) -> bool:
    return isinstance(path, (str, os.PathLike)) and Path(os.path.abspath(path)).is_relative_to(folder)


if __name__ == "__main__":
    last, folder, verb, *arguments = sys.argv[1:]
    count_writes(Path(folder).absolute(), int(last))
    sys.argv = [f"pmg-{verb}", *arguments]
    runpy.run_module(f"pmg.commands.{verb}", run_name="__main__")
