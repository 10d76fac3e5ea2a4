"""Commands that a test interrupts, and resumes by the command that they print."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from hashlib import sha256

from commands import FEW, read_by

# each command, in a run folder of its own name, with the file in it that shows that its work has begun
SIGNS = {
    "train": "csv/version_0/metrics.csv",
    "generate": "records.jsonl",
    "evaluate": "rows.parquet",
    "pretrain": "csv/version_0/metrics.csv",
}
TRAINING = [
    "trainer=cpu", "trainer.max_steps=8", "trainer.val_check_interval=4", "trainer.limit_val_batches=1",
    "trainer.log_every_n_steps=1", "+logger.csv.flush_logs_every_n_steps=1",
    *FEW,
]  # fmt: skip
STUDY = [
    *TRAINING, "language_model=tiny", "text_encoder=tiny", "generator=tiny", "scorer=tiny", "train_run=train",
    "generate_run=generate", "paths.cache_dir=cache", "split_sizes={train: 8, validation: 4, test: 4}",
    "objective.users_per_step=4", "objective.batches.draws=2", "sampling.steps=2", "sampling.batch_size=2",
    "sheet_users=4", "method=[none,soft,pmg_paper]",
]  # fmt: skip
AUTOENCODER = [
    *TRAINING, "stage=look_autoencoder", "stage.batch_size=4",
    "stage.autoencoder.encoder_block_out_channels=[8,8,8,16]",
    "stage.autoencoder.decoder_block_out_channels=[8,8,8,16]",
]  # fmt: skip


def start(place, verb, options):
    """A command as a shell starts it: Ctrl-C reaches it even if pytest runs in the background."""
    return subprocess.Popen(
        [sys.executable, "-m", f"pmg.commands.{verb}", *read_by(verb, options)],
        cwd=place,
        env={name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def finish(process):
    """Waits for the end; returns what stands on stderr."""
    _, stderr = process.communicate(timeout=600)
    return stderr


def interrupt(process, sign, number=signal.SIGINT):
    """Presses Ctrl-C, or sends another signal, once `sign` is there and holds something; gives stderr."""
    while process.poll() is None and not (sign.exists() and sign.stat().st_size):
        time.sleep(0.002)
    process.send_signal(number)
    return finish(process)


def options(verb):
    return [*(AUTOENCODER if verb == "pretrain" else STUDY), f"run_dir={verb}"]


def made(folder):
    """What a finished run made: a digest of every model, picture and table; records in whatever order."""
    kinds = ("*.safetensors", "*.png", "*.parquet", "table.md")  # a model card tells the minutes
    files = [path for kind in kinds for path in folder.rglob(kind)]
    found = {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}
    for path in folder.glob("records.jsonl"):
        found["records"] = sorted(path.read_text().splitlines())
    for path in folder.glob("results.json"):
        results = json.loads(path.read_text())
        found["results"] = {name: part for name, part in results.items() if name not in ("cost", "revision", "digest")}
    return found
