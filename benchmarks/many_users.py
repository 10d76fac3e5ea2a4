"""Measures peak memory and time of a generation and its evaluation by number of users, into docs/scaling.md.

python -m benchmarks.many_users outputs/many_users   # 1,000, 10,000 and 100,000 customers (two hours of a core)

The shop has 400 products and random customers; models are of toy size with random weights, so that what is measured
are the users. Each command runs in a process of its own; what it measured is in its ledger.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.scaling import table
from pmg.cache import atomic_write_json
from pmg.reporting.study_pages import fill

ROOT = Path(__file__).resolve().parents[1]
USERS = (1_000, 10_000, 100_000)
ITEMS, BOUGHT, SIZE = 400, 7, 64  # products; likes of each customer; pixels
MODELS = ("generator=tiny", "scorer=tiny", "language_model=tiny", "sampling.steps=1", "device=cpu")
HEAD = ("users", "generate: memory", "time", "evaluate: memory", "time")


def write_shop(folder: Path, users: int) -> None:
    """Writes items with a picture each, and what customers chose: a window of five, and a target."""
    rng = np.random.default_rng(0)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    names = [f"i{number:03}" for number in range(ITEMS)]
    for name in names:
        pixels = rng.integers(0, 256, (SIZE // 16, SIZE // 16, 3), np.uint8)
        Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.NEAREST).save(folder / f"pictures/{name}.png")
    titles = [f"thing {number}" for number in range(ITEMS)]
    items = pd.DataFrame({"id": names, "title": titles, "image": [f"{name}.png" for name in names]})
    items.to_parquet(folder / "items.parquet")
    chosen = rng.random((users, ITEMS), np.float32).argpartition(BOUGHT)[:, :BOUGHT]
    who = [f"u{number:06}" for number in range(users)]
    pd.DataFrame(
        {
            "user": np.repeat(who, BOUGHT), "item": np.array(names)[chosen.ravel()],
            "timestamp": np.tile(np.arange(BOUGHT), users),
        }
    ).to_parquet(folder / "chosen.parquet")  # fmt: skip


def run(command: str, *overrides: str) -> None:
    """Runs a command of pmg in a process, if it wasn't completed before; SystemExit if it fails."""
    (folder,) = (each.partition("=")[2] for each in overrides if each.startswith("run_dir="))
    record = Path(folder, "metrics.json")
    if record.is_file() and json.loads(record.read_text())["status"] == "completed":
        return
    if code := subprocess.call([sys.executable, "-m", f"pmg.commands.{command}", *overrides]):
        raise SystemExit(f"pmg-{command} ended with code {code}")


def measure(folder: Path, users: int) -> dict[str, Any]:
    """Returns memory (MiB) and seconds of a generation and an evaluation; of an interrupted one those of its end."""
    data = ["data=own_files", f"data.folder={folder}/data"]
    if not (folder / "data" / "manifest.json").is_file():
        write_shop(folder, users)
        run(
            "prepare", *data, f"source.read.items={folder}/items.parquet", f"run_dir={folder}/prepare",
            f"source.read.interactions={folder}/chosen.parquet", f"source.read.images={folder}/pictures",
            f"source.pictures.size={SIZE}",
        )  # fmt: skip
    made = [f"run_dir={folder}/generate"]
    run(
        "generate", "experiment=real_users", *data, *made, *MODELS, "method=none", "data.duplicates=null",
        "data.shares={train: 0.0, validation: 0.0, test: 1.0}", "sampling.batch_size=250",
    )  # fmt: skip
    run(
        "evaluate", f"generate_run={folder}/generate", f"run_dir={folder}/evaluate", f"results_dir={folder}/results",
        "metrics=ssim_truth", "device=cpu",
    )  # fmt: skip
    found: dict[str, Any] = {"users": users}
    for command in ("generate", "evaluate"):
        ledger = json.loads((folder / command / "metrics.json").read_text())["ledger"]
        found[command] = {"mib": ledger["peak_memory"]["ram_mib"], "seconds": ledger["seconds"]["total"]}
    found["revision"] = json.loads((folder / "results" / "results.json").read_text())["revision"]
    return found


def to_row(found: dict[str, Any], first: dict[str, Any]) -> list[str]:
    """Returns the cells of a line of the table."""
    cells = [f"{found['users']:,}"]
    for command in ("generate", "evaluate"):
        now, least = found[command], first[command]
        cells += [f"{now['mib']:,.0f} MiB ({now['mib'] / least['mib']:.2f}x)", f"{now['seconds'] / 60:.1f} min"]
    return cells


def main() -> None:
    """Measures, and records what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--users", type=int, nargs="+", default=USERS)
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    found = [measure(given.folder.resolve() / str(users), users) for users in given.users]
    text = table(HEAD, [to_row(each, found[0]) for each in found])
    print(text)
    if given.record:
        atomic_write_json(ROOT / "benchmarks" / "many_users" / "results.json", {"runs": found})
        fill(ROOT / "docs" / "scaling.md", "many-users", text)


if __name__ == "__main__":
    main()
