"""What the tests of faults share: command lines of small runs, honest runs made once, and what is compared of them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from shlex import split

import numpy as np
import torch
from PIL import Image

from commands import read_by, run_here

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "assets"
PICTURES = 2600  # of the shop that is packed and killed: three shards of a thousand
# runs on drawings with tiny models: train, generate, evaluate
STUDY = split("experiment=faults paths.output_dir=. paths.cache_dir=cache")
# runs on the data of a small shop
SHOP = split(
    "data=own_files paths.data_dir=data source.read.items=shop/items.csv source.read.interactions=shop/chosen.csv "
    "source.pictures.size=64 run_dir=prepare"
)
TINY = split("language_model=tiny preference_encoder=text text_encoder=tiny generator=tiny")
REAL = split(
    "experiment=real_users scorer=tiny paths.output_dir=. paths.cache_dir=cache paths.data_dir=data "
    "objective.users_per_step=4 objective.batches.draws=2 trainer=cpu trainer.precision=32-true trainer.max_steps=60 "
    "trainer.log_every_n_steps=1 trainer.val_check_interval=10 sampling.steps=2 targets.train=1 data.duplicates=null "
    "sampling.batch_size=4 callbacks.checkpoint.every_s=0"
)
CHAIN = [*TINY, *REAL]
OTHER = [*CHAIN, "optimizer.lr=0.01", "train_run=other/train", "generate_run=other/generate"]
DEEP = [
    *CHAIN,
    *split(
        "text_encoder=minilm generator=looks scorer=looks captioner=tagger paths.models_dir=models sampling=default "
        "sampling.steps=2 sampling.batch_size=4 trainer.max_steps=30 image_encoder=scorer train_run=deep/train "
        "generate_run=deep/generate"
    ),
]
SURVEY = split(
    "run_dir=survey design.examples=3 design.raters=2 design.pairs=6 design.ratings=6 design.checks=1 "
    "paths.data_dir=data"
)
DENOISER = split(
    "stage=look_unet stage.batch_size=8 text_encoder=minilm stage.pool.held_out_looks=4 trainer=cpu name=deep "
    "trainer.precision=32-true trainer.limit_val_batches=1 trainer.log_every_n_steps=1 paths.cache_dir=cache "
    "stage.training.model.denoiser.model.block_out_channels=[16,16] stage.training.model.style_encoder.channels=16 "
    "stage.training.model.denoiser.model.attention_head_dim=[2,2] run_dir=pretrain"
)
AUTOENCODER = split(
    "stage=look_autoencoder data.topics=[animal-mammal] stage.autoencoder.encoder_block_out_channels=[8,8,8,16] "
    "stage.autoencoder.decoder_block_out_channels=[8,8,8,16] trainer=cpu trainer.precision=32-true "
    "trainer.limit_val_batches=1 trainer.log_every_n_steps=1 run_dir=pretrain"
)
SHORT = split("trainer.max_steps=2 trainer.val_check_interval=2 paths.output_dir=.")
SHARDED = [*CHAIN, "shard.count=2", "run_dir=sharded"]
EXPORT = split("train_run=real_users/train folder=export/pipeline run_dir=export")
ANSWERS = split("run_dir=analysis analyse=answers survey=survey allowed_failures=9")
ARGUMENTS: dict[str, list[str]] = {
    "none": [],
    "study": STUDY,
    "shop": SHOP,
    "chain": CHAIN,
    "deep": DEEP,
    "deep_train": [*DEEP, "run_dir=deep/train"],
    "deep_generate": [*DEEP, "run_dir=deep/generate"],
    "deep_evaluate": [*DEEP, "run_dir=deep/evaluate", "results_dir=deep"],
    "deep_export": split("train_run=deep/train folder=deep/pipeline run_dir=deep/export paths.models_dir=models"),
    "judged": [*CHAIN, "results_dir=results"],
    "words": split(
        "data=own_files scenario=film_genres scorer=tiny text_encoder=tiny language_model=tiny paths.data_dir=data "
        "paths.cache_dir=cache run_dir=keywords later_items=1 history_items=3"
    ),
    "survey": [*SURVEY, "generate_run=real_users/generate"],
    "answers": [*ANSWERS, "evaluation=real_users"],
    "export": EXPORT,
    "piped": [*REAL, "pipeline=export/pipeline", "run_dir=piped"],
    "denoiser": [
        *DENOISER,
        *split(
            "data=own_files paths.data_dir=data paths.models_dir=models into=installed trainer.max_steps=40 "
            "trainer.val_check_interval=10 stage.pool.looks=8 callbacks.checkpoint.every_s=0"
        ),
    ],
    "short_denoiser": [*DENOISER, "data.topics=[animal-mammal]", "stage.pool.looks=4", *SHORT],
    "short_autoencoder": [*AUTOENCODER, *SHORT, "stage.batch_size=2", "name=deep", "paths.cache_dir=cache"],
    "whole_study": [
        *CHAIN,
        *split("run_dir=study train_run=${run_dir}/train generate_run=${run_dir}/generate results_dir=${run_dir}"),
    ],
    "sharded": SHARDED,
    "sharded_judged": [*SHARDED, *split("generate_run=sharded run_dir=sharded_judged results_dir=sharded_judged")],
    "second": [*CHAIN, "init_from=other/train", "run_dir=second"],
    "report": split("real_users --into report"),
    "elsewhere": [*CHAIN, "paths.data_dir=elsewhere"],
    "carded": [*EXPORT, "results=real_users/results.json"],
    "carded_other": [*EXPORT, "results=other/results.json"],
    "deep_copied": split("train_run=deep/train folder=deep/copied run_dir=deep/export2 copy_frozen=true"),
    "other_answers": [*ANSWERS, "evaluation=other"],
}


def error_line(stderr: str) -> str:
    """Returns the line that says why a command ended, or else its last one."""
    lines = [line for line in stderr.splitlines() if line.strip() and "Loading weights" not in line]
    return next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "")


def call(verb: str, arguments: Sequence[str]) -> tuple[int, str]:
    """Returns exit code and error line of a command that runs here, from the current folder."""
    done = run_here(verb, *read_by(verb, arguments))
    return int(done.returncode) if isinstance(done.returncode, int) else 1, error_line(done.stderr)


def must(verb: str, *arguments: str) -> None:
    """Runs a command that has to succeed."""
    code, said = call(verb, arguments)
    assert code == 0, f"pmg-{verb} {' '.join(arguments)}: {said}"


def start(verb: str, arguments: Sequence[str], program: Sequence[str | Path] = ()) -> subprocess.Popen[str]:
    """Starts a command, or `program` with its name and arguments, in a process group of its own."""
    clean = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
    command = [*program, verb] if program else ["-m", f"pmg.commands.{verb}"]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, *command, *read_by(verb, arguments)],
        env=clean,
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
    )


def kill_when(process: subprocess.Popen[str], reached: Callable[[], bool]) -> bool:
    """Kills a process and its children as soon as `reached`; False: it ended before, and succeeded."""
    while process.poll() is None and not reached():
        time.sleep(0.005)
    ended = process.poll() is not None
    if not ended:
        os.killpg(process.pid, signal.SIGKILL)
    _, stderr = process.communicate()
    assert not ended or process.returncode == 0, error_line(stderr)
    return not ended


def open_shop(folder: Path, seed: int = 0, mtime: float = 0) -> None:
    """Writes a small shop: equal ids, sizes and file lengths for each seed, other pictures, titles and genres.

    With `mtime` the pictures have one date, as those unpacked from an archive.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng, genres = np.random.default_rng(seed), ["comedy", "drama", "horror"]
    for number in range(40):
        small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        small.resize((64, 64), Image.Resampling.NEAREST).save(folder / f"{number}.bmp")
        if mtime:
            os.utime(folder / f"{number}.bmp", (mtime, mtime))
    items = [f"i{n},thing {n},{genres[(n + seed) % 3]}|red,home,{1990 + n},{n}.bmp" for n in range(40)]
    (folder / "items.csv").write_text("\n".join(["id,title,keywords,topic,year,image", *items]) + "\n")
    chosen = [f"u{u},i{(u * 7 + k * 3) % 40},{u * 100 + k}" for u in range(20) for k in range(9)]
    (folder / "chosen.csv").write_text("\n".join(["user,item,timestamp", *chosen]) + "\n")


def open_large_shop(folder: Path) -> None:
    """Writes a shop of `PICTURES` things, each of which somebody chose."""
    dice, rng = random.Random(0), np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(PICTURES):
        small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        small.resize((96, 96), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    items = "\n".join(f"i{n},thing {n},red|round,home,{n}.png" for n in range(PICTURES))
    chosen = "\n".join(f"u{n % 200},i{n},{n + dice.randrange(3)}" for n in range(PICTURES))
    (folder / "items.csv").write_text(f"id,title,keywords,topic,image\n{items}\n")
    (folder / "chosen.csv").write_text(f"user,item,timestamp\n{chosen}\n")


class HonestRuns:
    """Runs of a folder, each made when it is needed first, by the functions of a table; the table is in their order.

    Args:
        folder: of the runs; the functions work in it.
        makers: what makes each run, by name.
    """

    def __init__(self, folder: Path, makers: dict[str, Callable[[], object]]) -> None:
        self.folder, self._makers = folder, makers
        self._made: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def upto(self, last: str) -> Path:
        """Returns the folder with the runs up to `last`."""
        names = list(self._makers)
        with contextlib.chdir(self.folder):
            for name in names[: names.index(last) + 1]:
                if name not in self._made:
                    self._makers[name]()
                    self._made.add(name)
        return self.folder

    @contextlib.contextmanager
    def copied(self, last: str, folder: Path) -> Iterator[Path]:
        """Works in a copy of the runs up to `last`, which is removed afterwards."""
        shutil.copytree(self.upto(last), folder, symlinks=True)
        try:
            with contextlib.chdir(folder):
                yield folder
        finally:
            shutil.rmtree(folder)


PLACES = ("run_dir", "train_run", "generate_run", "results_dir")
KINDS = split("*.safetensors *.png *.parquet *.arrow table.md manifest.json records.jsonl model_index.json")


def made(folder: Path) -> dict[str, str]:
    """Returns a digest of all that a finished run made: weights, pictures, tables, records; no costs, no logs."""
    found = {str(p.relative_to(folder)): sha256(p.read_bytes()).hexdigest() for k in KINDS for p in folder.rglob(k)}
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


def contents(folder: Path) -> dict[str, str]:
    """Returns a digest of each file of a folder and the target of each link; locks are left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_file() and "lock" not in path.name:
            found[name] = sha256(path.read_bytes()).hexdigest()
    return found
