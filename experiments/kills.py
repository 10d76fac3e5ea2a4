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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.progress import Progress, track
from stages import STAGES, Pieces, Stage, age, furnish, is_mixed, last_line, made, open_shop, start, start_watched

MOST = 4  # kills of one run: what is left of a run may always end before the moment that is drawn


@dataclass
class Killing:
    """One killed process and how the command went on.

    Attributes:
        stage: its name.
        trial: the run that was killed, perhaps more than once.
        after_s: seconds between its first sign of life and the kill; None where it was killed at a write.
        write: number of the write into the watched folder that the kill came before.
        finished: pieces that were finished at the kill: shards, steps up to the checkpoint, pictures.
        twice: how many of them were made again.
        mixed: whether the watched folder could be loaded with files of two runs.
        equal: whether the run's end result equals the undisturbed one to the last bit.
    """

    stage: str
    trial: str
    after_s: float | None
    write: int | None = None
    finished: int = 0
    twice: int = 0
    mixed: bool = False
    equal: bool = False


def kill_all(
    kills: int, place: Path, stages: Sequence[Stage] = STAGES, seed: int = 0, jobs: int = 1
) -> list[dict[str, Any]]:
    """Kills each stage's command `kills` times or a few more; one row a kill.

    Args:
        kills: of each stage.
        place: folder of the runs; made anew.
        stages: those whose commands are killed; each needs what earlier ones made.
        seed: of the moments.
        jobs: stages at once.

    Raises:
        RuntimeError: a command failed that was not killed.
    """
    whole = place / "whole"
    shutil.rmtree(place, ignore_errors=True)
    spans = run_undisturbed(whole, stages)
    with Progress() as progress, ThreadPoolExecutor(jobs) as pool:
        tasks = [progress.add_task(stage.name, total=kills) for stage in stages]

        def kill(number: int) -> list[Killing]:
            stage, rng, rows = stages[number], random.Random(f"{seed} {stages[number].name}"), []
            while len(rows) < kills:
                folder = place / f"{stage.verb}-{number}-{len(rows)}"
                rows += _trial(whole, folder, stage, spans[number], rng)
                progress.update(tasks[number], completed=len(rows))
            return rows

        return [asdict(row) for rows in pool.map(kill, range(len(stages))) for row in rows]


def run_undisturbed(whole: Path, stages: Sequence[Stage] = STAGES) -> list[float]:
    """Runs each stage to its end in the folder `whole`, which is new; returns what `_undisturbed` does of each."""
    open_shop(whole)
    return [_undisturbed(whole, stage) for stage in track(stages, "undisturbed runs")]


def _undisturbed(whole: Path, stage: Stage) -> float:
    """Runs a stage to its end; returns the seconds from its first sign of life, or its writes."""
    if stage.watched:
        _finish(start_watched(whole, stage, 0))
        return int((whole / "writes.txt").read_text())
    process = start(whole, stage.verb, stage.arguments)
    _live(process, whole / stage.verb)
    begun = time.monotonic()
    _finish(process)
    return time.monotonic() - begun


def _trial(whole: Path, place: Path, stage: Stage, span: float, rng: random.Random) -> list[Killing]:
    """Kills the stage until it has ended; judges the result."""
    place.mkdir()
    furnish(place, whole, stage.needs)
    if stage.watched:
        age(place / stage.watched)
    rows: list[Killing] = []
    before: Pieces = {}
    killing: Killing | None = Killing(stage.name, place.name, None)
    while killing:
        killing = _kill(place, stage, span, rng if len(rows) < MOST else None)
        pieces = stage.pieces(place)
        if rows:
            rows[-1].twice = sum(pieces.get(name) != value for name, value in before.items())
        if killing:
            mixed = bool(stage.index) and is_mixed(place / stage.index)
            rows.append(replace(killing, finished=len(pieces), mixed=mixed))
        before = pieces
    equal = made(place / stage.made) == made(whole / stage.made)
    shutil.rmtree(place)
    return [replace(row, equal=equal) for row in rows]


def _kill(place: Path, stage: Stage, span: float, rng: random.Random | None) -> Killing | None:
    """Runs a stage's command and kills it at a random moment; None: it ended before, or `rng` is None."""
    if stage.watched:
        write = rng.randint(1, int(span)) if rng else 0
        process = start_watched(place, stage, write, start_new_session=True)
        _, stderr = process.communicate()
        if write and process.returncode == -signal.SIGKILL:
            return Killing(stage.name, place.name, None, write)
        return _check(process, stderr)
    after = rng.uniform(0, span) if rng else None
    killed = _kill_after(start(place, stage.verb, stage.arguments, start_new_session=True), place / stage.verb, after)
    return Killing(stage.name, place.name, round(after, 2)) if after is not None and killed else None


def _kill_after(process: subprocess.Popen[str], folder: Path, after: float | None) -> bool:
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
    _check(process, stderr)


def _check(process: subprocess.Popen[str], stderr: str) -> None:
    if process.returncode:
        raise RuntimeError(f"{shlex.join(map(str, process.args))} failed undisturbed: {last_line(stderr)}")
