"""The commands whose runs are killed and damaged: what they start from, what they make, what of it is finished."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

HERE = Path(__file__).resolve().parent
PICTURES = 2600  # three shards of a thousand
SOON = ["callbacks.checkpoint.every_s=0.3", "+logger.csv.flush_logs_every_n_steps=1"]
STUDY = ["experiment=faults", "paths.output_dir=.", "paths.cache_dir=cache"]
SHOP = ["data=own_files", "paths.data_dir=data", "source.read.items=shop/items.csv",
        "source.read.interactions=shop/chosen.csv", "source.pictures.size=64"]  # fmt: skip
EXPORT = ["train_run=train", "folder=export/pipeline", "run_dir=export"]
AUTOENCODER = [
    "stage=look_autoencoder", "stage.batch_size=4", "run_dir=pretrain", "into=pretrain/installed", "trainer=cpu",
    "stage.autoencoder.encoder_block_out_channels=[8,8,8,16]",
    "stage.autoencoder.decoder_block_out_channels=[8,8,8,16]", "data.topics=[animal-mammal]",
    "trainer.precision=32-true", "trainer.max_steps=30", "trainer.val_check_interval=10",
    "trainer.limit_val_batches=1", "trainer.log_every_n_steps=1",
]  # fmt: skip
EXPORTED = "export/pipeline/model_index.json"
INSTALLED = "pretrain/installed/look_generator/vae/config.json"
EARLIER = b"of an earlier run"
Pieces = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """A command as it is run here, in a folder of its own.

    Attributes:
        verb: of the command, and its run folder.
        arguments: of the command line.
        made: folder with all that the stage makes.
        pieces: what of it is finished, by name; whatever makes a piece again changes its value.
        needs: folders that it starts from.
        watched: folder with files of an earlier run, at whose writes the command is killed; empty: it is killed at any
            time.
        index: file of the watched folder without which the files beside it can't be loaded.
    """

    verb: str
    arguments: Sequence[str]
    made: str
    pieces: Callable[[Path], Pieces]
    needs: Sequence[str] = field(default=())
    watched: str = ""
    index: str = ""

    @property
    def name(self) -> str:
        """The verb, with the folder that is watched."""
        return f"{self.verb}, writing {self.watched}" if self.watched else self.verb


def shards(place: Path) -> Pieces:
    """Shards of pictures that a packing has counted as done."""
    data = place / "data/own_files"
    folder = data / ".pictures" if (data / ".pictures").exists() else data / "pictures"
    state = data / ".packing.json"
    names = json.loads(state.read_text())["packed"]["sha256"] if state.exists() else ()
    return {Path(name).name: _identity(folder / Path(name).name) for name in names}


def images(place: Path) -> Pieces:
    """Pictures that stand in the records."""
    path = place / "generate/records.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return {name: _identity(place / "generate" / name) for name in (json.loads(line)["image"] for line in lines)}


def steps(verb: str) -> Callable[[Path], Pieces]:
    """Steps up to the checkpoint, each with the attempt that made it last."""

    def read(place: Path) -> Pieces:
        checkpoint = place / verb / "checkpoints/last.ckpt"
        reached = torch.load(checkpoint, weights_only=True)["global_step"] if checkpoint.exists() else 0
        found: Pieces = {}
        for path in sorted(
            (place / verb / "csv").glob("version_*/metrics.csv"), key=lambda path: path.stat().st_ctime
        ):
            found |= dict.fromkeys(_logged(path), path.parent.name)
        return {step: attempt for step, attempt in found.items() if int(step) < reached}

    return read


def _logged(path: Path) -> list[str]:
    """Steps of a log's training rows; a last row that was cut short is none."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["step"] for row in rows if any(value for name, value in row.items() if str(name).startswith("train/"))]


def nothing(place: Path) -> Pieces:
    """A stage that is one piece."""
    return {}


def _identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


STAGES = (
    Stage("prepare", [*SHOP, "run_dir=prepare"], "data", shards, ["shop"]),
    Stage("pretrain", [*AUTOENCODER, *SOON], "pretrain", steps("pretrain")),
    Stage("train", [*STUDY, *SOON], "train", steps("train")),
    Stage("generate", STUDY, "generate", images, ["train"]),
    Stage("evaluate", STUDY, "evaluate", nothing, ["train", "generate"]),
    Stage("export", EXPORT, "export", nothing, ["train"]),
    Stage("pretrain", AUTOENCODER, "pretrain", nothing, ["pretrain"], "pretrain/installed", INSTALLED),
    Stage("export", EXPORT, "export", nothing, ["train", "export"], "export/pipeline", EXPORTED),
)


def age(folder: Path) -> None:
    """Turns all files of a folder into those of an earlier run."""
    for path in _visible(folder):
        path.write_bytes(EARLIER)


def is_mixed(index: Path) -> bool:
    """Whether the files beside an index, if there is one, are partly of an earlier run."""
    return index.exists() and len({path.read_bytes() == EARLIER for path in _visible(index.parent)}) > 1


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]


def start(place: Path, verb: str, arguments: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    return _start(place, ["-m", f"pmg.commands.{verb}", *arguments], **options)


def _start(place: Path, arguments: Sequence[str | Path], **options: Any) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=place, env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def start_watched(place: Path, stage: Stage, last: int, **options: Any) -> subprocess.Popen[str]:
    """A stage's command that kills itself at write number `last` into the watched folder; 0: never."""
    return _start(place, [HERE / "dying.py", str(last), stage.watched, stage.verb, *stage.arguments], **options)


def run(place: Path, verb: str, arguments: Sequence[str]) -> tuple[int, str]:
    """Exit code and last line on stderr of a command that is run to its end."""
    process = start(place, verb, arguments)
    _, stderr = process.communicate()
    return process.returncode, last_line(stderr)


def last_line(stderr: str) -> str:
    """What a reader sees at the end."""
    return next((line for line in reversed(stderr.splitlines()) if line.strip()), "")


def exit_code(end: SystemExit) -> int:
    """Returns the code that a process ends with: 0 without one, 1 for a message."""
    return end.code if isinstance(end.code, int) else int(end.code is not None)


def open_shop(place: Path) -> None:
    """Writes a data set of one's own: things with pictures, and people who chose some of them in time."""
    folder, dice, rng = place / "shop", random.Random(0), np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(PICTURES):
        small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        small.resize((96, 96), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    items = "\n".join(f"i{n},thing {n},red|round,home,{n}.png" for n in range(PICTURES))
    chosen = "\n".join(f"u{n % 200},i{n},{n + dice.randrange(3)}" for n in range(PICTURES))
    (folder / "items.csv").write_text(f"id,title,keywords,topic,image\n{items}\n")
    (folder / "chosen.csv").write_text(f"user,item,timestamp\n{chosen}\n")


PLACES = ("run_dir", "train_run", "generate_run", "results_dir")


def made(folder: Path) -> dict[str, str]:
    """A digest of all that a finished stage made: weights, pictures, tables, records; costs and logs are left out."""
    kinds = (
        "*.safetensors",
        "*.png",
        "*.parquet",
        "*.arrow",
        "table.md",
        "manifest.json",
        "records.jsonl",
        "model_index.json",
    )
    found = {str(p.relative_to(folder)): sha256(p.read_bytes()).hexdigest() for k in kinds for p in folder.rglob(k)}
    for path in folder.glob("checkpoints/last.ckpt"):  # in full precision, where the saved model is rounded
        tensors = torch.load(path, weights_only=True)["tensors"]
        kept = {key: value for key, value in tensors.items() if not key.startswith("callbacks")}
        found["last.ckpt"] = sha256(json.dumps(kept).encode()).hexdigest()
    for path in folder.glob("results.json"):
        results = {
            name: {key: value for key, value in part.items() if key not in PLACES} if name == "config" else part
            for name, part in json.loads(path.read_text()).items()
            if name not in ("cost", "revision", "digest")
        }
        found["results.json"] = sha256(json.dumps(results).encode()).hexdigest()
    return found


def furnish(place: Path, whole: Path, folders: Sequence[str]) -> None:
    """Copies what a stage starts from."""
    for name in folders:
        shutil.copytree(whole / name, place / name)
