"""Damages what runs depend on: each time there is a clear line or a clean recovery, never another result."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import track
from stages import STAGES, furnish, last_line, made, run

BY_VERB = {stage.verb: stage for stage in STAGES if not stage.watched}
ENCODER = "train/encoder/diffusion_pytorch_model.safetensors"


def flip(path: Path) -> None:
    """Turns one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def halve(path: Path) -> None:
    """Cuts a file in the middle."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@dataclass(frozen=True)
class Damage:
    """A fault in files, met by a command.

    Attributes:
        fault: in words.
        verb: of the command that meets it.
        files: what is damaged, as a pattern.
        damage: does it to one file.
        needs: folders that are there.
        repair: what the line says to do: ``remove`` or ``restore`` the files; empty: the command helps itself.
        unfinished: whether the command's own run folder is made to look broken off.
    """

    fault: str
    verb: str
    files: str
    damage: Callable[[Path], None]
    needs: Sequence[str]
    repair: str = ""
    unfinished: bool = False

    def __call__(self, whole: Path, place: Path) -> tuple[int, str]:
        """Runs the command into the fault, and once more after the repair; returns code and line of the first."""
        furnish(place, whole, self.needs)
        if self.unfinished:
            (place / self.verb / "metrics.json").unlink()
        paths = sorted(place.glob(self.files))
        assert paths, f"no {self.files} to damage"
        for path in paths:
            self.damage(path)
        told = run(place, self.verb, BY_VERB[self.verb].arguments)
        for path in paths if self.repair else ():
            path.unlink(missing_ok=True)
            if self.repair == "restore":
                shutil.copy(whole / path.relative_to(place), path)
        if self.repair:
            run(place, self.verb, BY_VERB[self.verb].arguments)
        return told


@dataclass(frozen=True)
class Disk:
    """A run folder on a disk that can't take the run, met by a command; the second time there is room.

    Attributes:
        fault: in words.
        verb: of the command.
        size: of the disk.
        then: what is done to it before the command starts.
    """

    fault: str
    verb: str
    size: str
    then: str = "true"

    def __call__(self, whole: Path, place: Path) -> tuple[int, str]:
        """Runs the command twice in a mount namespace of its own; returns code and line of the first."""
        furnish(place, whole, BY_VERB[self.verb].needs)
        command = shlex.join([sys.executable, "-m", f"pmg.commands.{self.verb}", *BY_VERB[self.verb].arguments])
        disk = self.verb
        script = f"""
            mkdir -p {disk} && mount -t tmpfs -o size={self.size} tmpfs {disk}
            {self.then}
            {command} 2> first.txt && echo 0 > code.txt || echo $? > code.txt
            mount -o remount,rw,size=200m {disk}
            {command}
            cp -r {disk} kept && umount {disk} && rmdir {disk} && mv kept {disk}
        """
        subprocess.run(["unshare", "-m", "bash", "-ec", script], cwd=place, check=True, capture_output=True)
        return int((place / "code.txt").read_text()), last_line((place / "first.txt").read_text())


@dataclass(frozen=True)
class Setting:
    """A training that runs into a wall by its settings; it is started again without them.

    Attributes:
        fault: in words.
        verb: of the command.
        more: the settings.
    """

    fault: str
    verb: str
    more: Sequence[str]

    def __call__(self, whole: Path, place: Path) -> tuple[int, str]:
        """Runs the command with the settings, then without; returns code and line of the first."""
        furnish(place, whole, BY_VERB[self.verb].needs)
        told = run(place, self.verb, [*BY_VERB[self.verb].arguments, *self.more])
        shutil.rmtree(place / self.verb)
        run(place, self.verb, BY_VERB[self.verb].arguments)
        return told


CHECKPOINT, RECORDS = "train/checkpoints/last.ckpt", "generate/records.jsonl"
PICTURE, BOTH = "generate/images/pmg/own/*0-0.png", ["train", "generate"]
FAULTS = (
    Damage("half-written checkpoint", "train", CHECKPOINT, halve, ["train"], "remove", True),
    Damage("a bit of the checkpoint flipped", "train", CHECKPOINT, flip, ["train"], "remove", True),
    Damage("a bit of every cache entry flipped", "train", "cache/*/*/*.safetensors", flip, ["cache"]),
    Damage("cache entries cut in half", "train", "cache/*/*/*.safetensors", halve, ["cache"]),
    Damage("a bit of the trained encoder flipped", "generate", ENCODER, flip, ["train"], "restore"),
    Damage("trained encoder missing", "generate", ENCODER, Path.unlink, ["train"], "restore"),
    Damage("metrics.json of the training cut in half", "generate", "train/metrics.json", halve, ["train"], "restore"),
    Damage("records cut in the middle of a line", "generate", RECORDS, halve, BOTH, "", True),
    Damage("a record's line damaged", "evaluate", RECORDS, flip, BOTH, "restore"),
    Damage("a bit of a picture flipped", "evaluate", PICTURE, flip, BOTH, "restore"),
    Damage("a picture cut in half", "evaluate", PICTURE, halve, BOTH, "restore"),
    Disk("disk full while training", "train", "60k"),
    Disk("disk full while generating", "generate", "150k"),
    Disk("disk full while evaluating", "evaluate", "50k"),
    Disk("run folder read-only", "train", "1m", "mount -o remount,ro train"),
    Setting("loss not a number", "train", ["optimizer.lr=1e30"]),
)  # fmt: skip


def break_all(place: Path, whole: Path, jobs: int = 1) -> list[dict[str, Any]]:
    """Meets every fault once, `jobs` at a time; returns what was said, and whether the end result is undisturbed."""

    def meet(number: int) -> dict[str, Any]:
        fault, folder = FAULTS[number], place / f"fault-{number}"
        folder.mkdir()
        code, said = fault(whole, folder)
        result = BY_VERB[fault.verb].made
        equal = made(folder / result) == made(whole / result)
        shutil.rmtree(folder)
        return {"fault": fault.fault, "command": fault.verb, "code": code, "said": said, "equal": equal}

    with ThreadPoolExecutor(jobs) as pool:
        return list(track(pool.map(meet, range(len(FAULTS))), "faults", total=len(FAULTS)))
