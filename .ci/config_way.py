"""Counts the way of the composed config through the files of pmg while a command runs.

    python .ci/config_way.py evaluate work_dir=outputs/demo_smoke run_dir=outputs/way

A step of the way is a call of a function of pmg that gets a config (a `DictConfig`) as an argument. Files are
counted once; a return is a step into a file that the way has been in and left; a climb is a step from a file into one
of a higher layer (`LAYERS` in tests/project/test_architecture.py). Steps within a file count for nothing.
"""

from __future__ import annotations

import importlib.util
import sys
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import DictConfig

import pmg
from pmg.commands.pmg import find_commands

SOURCE = Path(pmg.__file__).resolve().parent
TESTS = Path(__file__).resolve().parents[1] / "tests" / "project" / "test_architecture.py"


class Way:
    """The files that functions which get a config are in, in the order of their calls, each with its caller's."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.calls: list[tuple[str, str]] = []

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Notes a call, as a profiler of Python."""
        if event != "call" or (file := _file(frame)) is None or not _has_config(frame):
            return
        caller = frame.f_back
        while caller is not None and (_file(caller) is None or not _has_config(caller)):
            caller = caller.f_back
        before = _file(caller) if caller else None
        if before and before != file:
            self.calls.append((before, file))
        if not self.files or self.files[-1] != file:
            self.files.append(file)


def _file(frame: FrameType) -> str | None:
    name = frame.f_code.co_filename
    return name.removeprefix(f"{SOURCE}/") if name.startswith(f"{SOURCE}/") else None


def _has_config(frame: FrameType) -> bool:
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return any(isinstance(frame.f_locals.get(name), DictConfig) for name in names)


def count_returns(files: list[str]) -> int:
    """Returns how many of the files, which are listed in the order of steps, were listed before and left."""
    seen: set[str] = set()
    found = 0
    for one, other in pairwise(files):
        seen.add(one)
        found += other in seen
    return found


def main() -> None:
    """Runs a command, and prints how many files its config went through, returns and climbs."""
    spec = importlib.util.spec_from_file_location("architecture", TESTS)
    assert spec is not None
    assert spec.loader is not None
    architecture = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(architecture)
    command, way = sys.argv[1], Way()
    sys.argv = [f"pmg-{command}", *sys.argv[2:]]
    sys.setprofile(way)
    try:
        find_commands()[command].load()()
    finally:
        sys.setprofile(None)
        height = [[architecture.LAYER[Path(file).parts[0].removesuffix(".py")] for file in call] for call in way.calls]
        climbs = sum(after > before for before, after in height)
        print(f"files {len(set(way.files))}, returns {count_returns(way.files)}, climbs {climbs}", file=sys.stderr)


if __name__ == "__main__":
    main()
