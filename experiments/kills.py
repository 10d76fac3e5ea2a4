"""Kills commands at random moments, goes on with the same command, and compares the result with an undisturbed one."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.progress import Progress
from stages import STAGES, Stage, furnish, last_line, made, open_shop, start

MOST = 4  # kills of one run: what goes on with little left to do may never live as long as an undisturbed one


@dataclass
class Killing:
    """One killed process and how the command went on.

    Attributes:
        stage: the command's verb.
        trial: the run that was killed, perhaps more than once.
        after_s: seconds between its first sign of life and the kill.
        finished: pieces that were finished at the kill: shards, steps up to the checkpoint, pictures.
        twice: how many of them were made again.
        equal: whether the run's end result equals the undisturbed one to the last bit.
    """

    stage: str
    trial: str
    after_s: float
    finished: int = 0
    twice: int = 0
    equal: bool = False


def kill_all(kills: int, place: Path, stages: Sequence[Stage] = STAGES, seed: int = 0) -> list[dict[str, Any]]:
    """Kills each stage's command `kills` times or a few more; one row a kill.

    Raises:
        RuntimeError: a command failed that nobody killed.
    """
    dice, found, whole = random.Random(seed), [], place / "whole"
    shutil.rmtree(place, ignore_errors=True)
    open_shop(whole)
    with Progress() as progress:
        for stage in stages:
            task = progress.add_task(stage.verb, total=kills)
            span = _undisturbed(whole, stage)
            rows: list[Killing] = []
            while len(rows) < kills:
                rows += _trial(whole, place / f"{stage.verb}-{len(rows)}", stage, span, dice)
                progress.update(task, completed=len(rows))
            found += rows
    return [asdict(row) for row in found]


def _undisturbed(whole: Path, stage: Stage) -> float:
    """Runs a stage to its end; returns the seconds from its first sign of life."""
    process = start(whole, stage.verb, stage.arguments)
    _live(process, whole / stage.verb)
    begun = time.monotonic()
    _finish(process)
    return time.monotonic() - begun


def _trial(whole: Path, place: Path, stage: Stage, span: float, dice: random.Random) -> list[Killing]:
    """Kills the stage until it has ended; judges the result."""
    place.mkdir()
    furnish(place, whole, stage.needs)
    rows: list[Killing] = []
    before: dict[str, Any] = {}
    killed = True
    while killed:
        after = dice.uniform(0, span) if len(rows) < MOST else None
        killed = _kill(start(place, stage.verb, stage.arguments, start_new_session=True), place / stage.verb, after)
        pieces = stage.pieces(place)
        if rows:
            rows[-1].twice = sum(pieces.get(name) != value for name, value in before.items())
        if killed:
            rows.append(Killing(stage.verb, place.name, round(after, 2), len(pieces)))
        before = pieces
    equal = made(place / stage.made) == made(whole / stage.made)
    shutil.rmtree(place)
    return [replace(row, equal=equal) for row in rows]


def _kill(process: subprocess.Popen[str], folder: Path, after: float | None) -> bool:
    """Kills a process and its children `after` seconds from its first sign of life; False: it ended before.

    None lets it end.
    """
    _live(process, folder)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    _finish(process)
    return False


def _live(process: subprocess.Popen[str], folder: Path) -> None:
    """Waits until the command has taken its folder."""
    begun = time.time()
    path = folder / "metrics.json"
    while process.poll() is None and not (path.exists() and path.stat().st_mtime >= begun):
        time.sleep(0.01)


def _finish(process: subprocess.Popen[str]) -> None:
    _, stderr = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{shlex.join(map(str, process.args))} failed undisturbed: {last_line(stderr)}")
