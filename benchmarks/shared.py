"""Fills the table of docs/configuration_models.md on ``language_model=shared``: one language model against two.

python -m benchmarks.shared

At published sizes operations and bytes are counted on tensors without content. At toy size, with random weights, both
kinds of training take turns and are timed.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.scaling import GIB, Machine, Plan, compose_all, table
from pmg.models.language.language_model import LanguageModel
from pmg.reporting.study_pages import fill

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = ("z_image", "flux2_klein", "qwen_image")
FULL = ["language_model=shared", "trainer=gpu", "generator.dtype=bfloat16", "objective.batches.draws=1"]
TOY = [
    "text_encoder=tiny", "scorer=tiny", "generator.size=64", "dtype=float32", "trainer=cpu", "logger=none",
    "split_sizes={train: 32, validation: 8, test: 2}", "objective.users_per_step=8", "objective.batches.draws=2",
    "history_items={train: 3, validation: 3, test: 3}", "generator.max_length=512",
]  # fmt: skip
STEPS, TURNS = 30, 5


def published_plan(family: str, two: bool) -> Plan:
    """Returns what a training takes at the published size, with one language model or with two of the same weights."""
    overrides = [*FULL, f"generator={family}", f"sampling={family}", "generator.gradient_checkpointing=true"]
    plan = Plan(compose_all(overrides), Machine())
    if two:  # its soft tokens are read at the last layer, behind a map that starts at random
        plan.language_model = LanguageModel(plan.language_model.model, plan.language_model.tokenizer)
        head, body = (plan.weights[name] for name in ("language model", "text encoder"))
        plan.weights = {**plan.weights, "language model": head + body}
        plan.sizes = replace(plan.sizes, map_start="scaled")
    return plan


def step_seconds(overrides: list[str], place: Path) -> float:
    """Returns the seconds of a training step, of a run of ``pmg-train``."""
    command = [sys.executable, "-m", "pmg.commands.train", *TOY, *overrides, f"run_dir={place}"]
    command += [f"trainer.{key}={STEPS}" for key in ("max_steps", "val_check_interval")]
    subprocess.run([*command, f"paths.cache_dir={place.parent / 'cache'}"], check=True, capture_output=True, cwd=ROOT)
    ledger = json.loads((place / "metrics.json").read_text())["ledger"]
    return ledger["seconds"]["train"] / STEPS


def toy_ratio(family: str, write: Callable[[Path], str]) -> tuple[float, float, float]:
    """Returns the median and the range of shared / two, seconds of a training step at toy size."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(write(Path(folder) / family))
        shutil.copytree(source / "tokenizer", source / "text_encoder", dirs_exist_ok=True)
        generator = [f"generator={family}", f"generator.source={source}"]
        two = ["language_model=hub", f"language_model.source={source / 'text_encoder'}"]
        ratios = []
        for turn in range(TURNS):
            seconds = [
                step_seconds([*generator, *encoder], Path(folder) / f"{turn}_{name}")
                for name, encoder in (("shared", ["language_model=shared"]), ("two", two))
            ]
            ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios), min(ratios), max(ratios)


def main() -> None:
    """Fills the document."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))  # the toy checkpoints of the tests
    import checkpoints

    body = []
    for family in FAMILIES:
        one, two = (published_plan(family, number) for number in (False, True))
        ratio = "–"  # language_model=hub reads no Qwen2.5-VL
        if family != "qwen_image":
            middle, low, high = toy_ratio(family, getattr(checkpoints, f"write_{family}"))
            ratio = f"{middle:.2f} [{low:.2f}, {high:.2f}]"
        body.append([
            f"`{family}`", *(f"{plan.memory(2) / GIB:.0f} GiB" for plan in (one, two)),
            *(f"{plan.operations.question / 1e12:.1f} TFLOP" for plan in (one, two)), ratio,
        ])  # fmt: skip
    header = [
        "generator", "a step of 2 questions, shared", "two models", "a question, shared", "two models",
        "seconds of a step at toy size, shared / two [range]",
    ]  # fmt: skip
    fill(ROOT / "docs" / "configuration_models.md", "shared", table(header, body))


if __name__ == "__main__":
    main()
