"""Runs are killed, and what they depend on is damaged: in the end the result is the undisturbed one, bit for bit."""

from __future__ import annotations

import contextlib
import csv
import json
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shlex import split
from typing import Any

import pytest
import torch

import dying
from fault_runs import AUTOENCODER, SHOP, STUDY, call, error_line, kill_when, made, must, open_large_shop, start

pytestmark = pytest.mark.slow
TRIALS, WATCHED_TRIALS, MOST = 8, 2, 4  # runs of a stage, and kills of one run, which may end before
SOON = ["callbacks.checkpoint.every_s=0.3", "+logger.csv.flush_logs_every_n_steps=1"]
EXPORT = split("train_run=train folder=export/pipeline run_dir=export")
TRAIN_MODEL = [
    *AUTOENCODER,
    *split("stage.batch_size=4 into=pretrain/installed trainer.max_steps=30 trainer.val_check_interval=10"),
]
INSTALLED, EXPORTED = "pretrain/installed/look_generator/vae/config.json", "export/pipeline/model_index.json"
EARLIER = b"of an earlier run"
Pieces = dict[str, Any]


def packed(place: Path) -> Pieces:
    """Shards of pictures that a packing has counted as done."""
    data = place / "data/own_files"
    folder = data / ".pictures" if (data / ".pictures").exists() else data / "pictures"
    state = data / ".packing.json"
    names = json.loads(state.read_text())["packed"]["sha256"] if state.exists() else ()
    return {Path(name).name: identity(folder / Path(name).name) for name in names}


def generated(place: Path) -> Pieces:
    """Pictures that are in the records."""
    path = place / "generate/records.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return {name: identity(place / "generate" / name) for name in (json.loads(line)["image"] for line in lines)}


def trained(verb: str) -> Callable[[Path], Pieces]:
    """Steps up to the checkpoint, each with the attempt that made it last."""

    def read(place: Path) -> Pieces:
        checkpoint, found = place / verb / "checkpoints/last.ckpt", {}
        reached = torch.load(checkpoint, weights_only=True)["global_step"] if checkpoint.exists() else 0
        logs = (place / verb / "csv").glob("version_*/metrics.csv")
        for path in sorted(logs, key=lambda path: path.stat().st_ctime):
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))  # a last row that was cut short has no value
            steps = [row["step"] for row in rows if any(v for k, v in row.items() if str(k).startswith("train/"))]
            found |= dict.fromkeys(steps, path.parent.name)
        return {step: attempt for step, attempt in found.items() if int(step) < reached}

    return read


def identity(path):
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


@dataclass(frozen=True)
class Stage:
    """A command that is run in a folder of its own.

    Attributes:
        verb: of the command, and its run folder.
        arguments: of the command line.
        made: folder with all that the stage makes.
        needs: folders that it starts from.
        pieces: what of it is finished, by name; whatever makes a piece again changes its value.
        watched: folder with files of an earlier run, at whose writes the command is killed; empty: it is killed at any
            time.
        index: file of the watched folder without which the files beside it can't be loaded.
    """

    verb: str
    arguments: list[str]
    made: str
    needs: tuple[str, ...] = ()
    pieces: Callable[[Path], Pieces] = lambda place: {}
    watched: str = ""
    index: str = ""

    def start(self, last=0):
        """Starts the command; one that is watched kills itself at write number `last`, 0: never."""
        program = [dying.__file__, str(last), self.watched] if self.watched else []
        return start(self.verb, self.arguments, program)

    def is_alive(self):
        """Returns a function whether the command has taken its folder."""
        begun, path = time.time(), Path(self.verb, "metrics.json")
        return lambda: path.exists() and path.stat().st_mtime >= begun


STAGES = {
    "prepare": Stage("prepare", SHOP, "data", ("shop",), packed),
    "pretrain": Stage("pretrain", [*TRAIN_MODEL, *SOON], "pretrain", (), trained("pretrain")),
    "train": Stage("train", [*STUDY, *SOON], "train", (), trained("train")),
    "generate": Stage("generate", STUDY, "generate", ("train",), generated),
    "evaluate": Stage("evaluate", STUDY, "evaluate", ("train", "generate")),
    "export": Stage("export", EXPORT, "export", ("train",)),
    "pretrain into a folder": Stage(
        "pretrain", TRAIN_MODEL, "pretrain", ("pretrain",), watched="pretrain/installed", index=INSTALLED
    ),
    "export into a folder": Stage(
        "export", EXPORT, "export", ("train", "export"), watched="export/pipeline", index=EXPORTED
    ),
}


class Undisturbed:
    """Each stage's undisturbed run, made in one folder when it is needed first; ``spans``: its seconds or writes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.spans = folder, {}
        open_large_shop(folder / "shop")

    def span(self, name: str) -> float:
        """Returns the seconds of a stage from its first sign of life, or the writes into the watched folder."""
        if name in self.spans:
            return self.spans[name]
        stage = STAGES[name]
        for needed in stage.needs:
            if needed in STAGES:
                self.span(needed)
        with contextlib.chdir(self.folder):
            process, alive = stage.start(), stage.is_alive()
            while process.poll() is None and not alive():
                time.sleep(0.01)
            begun = time.monotonic()
            assert not kill_when(process, lambda: False)
            written = Path("writes.txt")
            self.spans[name] = int(written.read_text()) if stage.watched else time.monotonic() - begun
        return self.spans[name]

    @contextlib.contextmanager
    def copied(self, names, folder):
        """Works in a folder with copies of what a stage starts from."""
        for name in names:
            if name in STAGES:
                self.span(name)
            shutil.copytree(self.folder / name, folder / name)
        folder.mkdir(exist_ok=True)
        with contextlib.chdir(folder):
            yield folder
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return Undisturbed(tmp_path_factory.mktemp("undisturbed"))


def visible(folder):
    return [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]


def is_mixed(index):
    """Whether the files beside an index, if there is one, are partly of an earlier run."""
    return index.exists() and len({path.read_bytes() == EARLIER for path in visible(index.parent)}) > 1


def kill(stage, span, dice, first):
    """Starts a stage and kills it at a random moment, or before a random write; False: it ended before.

    A `first` kill comes in the first half, so that it is not missed where the machine is busier than it was before.
    """
    if stage.watched:
        process = stage.start(dice.randint(1, int(span)))
        _, stderr = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), error_line(stderr)
        return process.returncode != 0
    process, alive, after, begun = stage.start(), stage.is_alive(), dice.uniform(0, span / 2 if first else span), None

    def reached():
        nonlocal begun
        if begun is None and alive():
            begun = time.monotonic()
        return begun is not None and time.monotonic() >= begun + after

    return kill_when(process, reached)


@pytest.mark.parametrize(
    ("name", "trial"),
    [
        pytest.param(name, trial, marks=pytest.mark.ci if (name, trial) == ("prepare", 0) else ())
        for name, stage in STAGES.items()
        for trial in range(WATCHED_TRIALS if stage.watched else TRIALS)
    ],
)
def test_killed_runs_go_on_to_the_undisturbed_result(name, trial, undisturbed, tmp_path, outcome):
    stage, dice, kills, pieces = STAGES[name], random.Random(f"{trial} {name}"), 0, {}
    span = undisturbed.span(name)
    with undisturbed.copied(stage.needs, tmp_path / "faulty") as folder:
        for path in visible(folder / stage.watched) if stage.watched else ():
            path.write_bytes(EARLIER)
        while kills < MOST and kill(stage, span, dice, first=not kills):
            kills += 1
            assert not stage.index or not is_mixed(Path(stage.index)), "files of two runs can be loaded together"
            kept = stage.pieces(folder)
            assert all(kept.get(piece) == value for piece, value in pieces.items()), "finished pieces were made again"
            pieces = kept
        must(stage.verb, *stage.arguments)
        kept = stage.pieces(folder)
        outcome(
            "killed runs", name, f"{kills} kills, {len(pieces)} finished pieces at the last", "the undisturbed result"
        )
        assert all(kept.get(piece) == value for piece, value in pieces.items()), "finished pieces were made again"
        assert made(folder / stage.made) == made(undisturbed.folder / stage.made)


def flip(path):
    """Turns one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


ENCODER, CHECKPOINT = "train/encoder/diffusion_pytorch_model.safetensors", "train/checkpoints/last.ckpt"
RECORDS, PICTURE, CACHE = "generate/records.jsonl", "generate/images/pmg/own/*0-0.png", "cache/*/*/*.safetensors"
# fault: the command, what is damaged and how, folders that are there, words of the line (none: it helps itself), what
# the line says to do with the files, and whether the command's own run looks broken off
DAMAGES = {
    "half-written checkpoint": ("train", CHECKPOINT, halve, ["train"], "is damaged", "remove", True),
    "a bit of the checkpoint flipped": ("train", CHECKPOINT, flip, ["train"], "is damaged", "remove", True),
    "a bit of every cache entry flipped": ("train", CACHE, flip, ["cache"], "", "", False),
    "cache entries cut in half": ("train", CACHE, halve, ["cache"], "", "", False),
    "a bit of the trained encoder flipped": ("generate", ENCODER, flip, ["train"], "is damaged", "restore", False),
    "trained encoder missing": ("generate", ENCODER, Path.unlink, ["train"], "is damaged", "restore", False),
    "metrics.json of the training cut in half":
        ("generate", "train/metrics.json", halve, ["train"], "is damaged", "restore", False),
    "records cut in the middle of a line": ("generate", RECORDS, halve, ["train", "generate"], "", "", True),
    "a record's line damaged": ("evaluate", RECORDS, flip, ["train", "generate"], "is damaged", "restore", False),
    "a bit of a picture flipped":
        ("evaluate", PICTURE, flip, ["train", "generate"], "can't be read", "restore", False),
    "a picture cut in half": ("evaluate", PICTURE, halve, ["train", "generate"], "can't be read", "restore", False),
}  # fmt: skip


@pytest.mark.parametrize("fault", DAMAGES)
def test_damage_is_told_or_made_good(fault, undisturbed, tmp_path, outcome):
    verb, pattern, damage, needs, expected, repair, unfinished = DAMAGES[fault]
    stage = STAGES[verb]
    undisturbed.span(verb)
    with undisturbed.copied(needs, tmp_path / "faulty") as folder:
        if unfinished:
            Path(verb, "metrics.json").unlink()
        paths = sorted(Path().glob(pattern))
        assert paths
        for path in paths:
            damage(path)
        code, said = call(verb, stage.arguments)
        for path in paths if repair else ():
            path.unlink(missing_ok=True)
            if repair == "restore":
                shutil.copy(undisturbed.folder / path, path)
        if repair:
            must(verb, *stage.arguments)
        outcome("damage", verb, fault, "one clear line" if code else "made good in silence", said if code else "")
        assert (code != 0) == bool(expected)
        assert expected in said
        assert made(folder / stage.made) == made(undisturbed.folder / stage.made)


DISKS = {
    "disk full while training": ("train", "60k", "true", "No space left on device"),
    "disk full while generating": ("generate", "150k", "true", "No space left on device"),
    "disk full while evaluating": ("evaluate", "50k", "true", "No space left on device"),
    "run folder read-only": ("train", "1m", "mount -o remount,ro train", "Read-only file system"),
}


@pytest.mark.parametrize("fault", DISKS)
def test_run_goes_on_when_its_disk_has_room(fault, undisturbed, tmp_path, outcome):
    """Twice in a mount namespace of its own; the second time there is room."""
    verb, size, then, expected = DISKS[fault]
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("a disk of its own needs root")
    stage = STAGES[verb]
    undisturbed.span(verb)
    command = shlex.join([sys.executable, "-m", f"pmg.commands.{verb}", *stage.arguments])
    script = f"""
        mkdir -p {verb} && mount -t tmpfs -o size={size} tmpfs {verb}
        {then}
        {command} 2> first.txt && echo 0 > code.txt || echo $? > code.txt
        mount -o remount,rw,size=200m {verb}
        {command}
        cp -r {verb} kept && umount {verb} && rmdir {verb} && mv kept {verb}
    """
    with undisturbed.copied(stage.needs, tmp_path / "faulty") as folder:
        subprocess.run(["unshare", "-m", "bash", "-ec", script], check=True, capture_output=True)
        said = error_line(Path("first.txt").read_text())
        outcome("damage", verb, fault, "one clear line", said)
        assert int(Path("code.txt").read_text()) == 1
        assert expected in said
        assert made(folder / stage.made) == made(undisturbed.folder / stage.made)


def test_training_whose_loss_is_no_number_is_refused(undisturbed, tmp_path, outcome):
    stage = STAGES["train"]
    undisturbed.span("train")
    with undisturbed.copied(stage.needs, tmp_path / "faulty") as folder:
        code, said = call("train", [*stage.arguments, "optimizer.lr=1e30"])
        shutil.rmtree("train")
        must("train", *stage.arguments)
        outcome("damage", "train", "loss not a number", "one clear line", said)
        assert code == 1
        assert "is not finite" in said
        assert made(folder / stage.made) == made(undisturbed.folder / stage.made)
