"""How cost grows with users, history and candidates, and memory with users."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from rich.progress import track

from benchmarks.stack import Plan, build_drawing, build_requests, build_study
from benchmarks.startup import scripts
from benchmarks.timing import exponent, timed

REPEATS = 3


def curve(sizes: tuple[int, ...], prepare: Callable[[int], tuple[float, Callable[[], Any]]], title: str) -> dict:
    """Median seconds of each size; `prepare` gives what the size comes to, and the work."""
    points = [prepare(size) for size in sizes]
    for _, work in points:
        work()
    rounds = [[timed(work)() for _, work in points] for _ in track(range(REPEATS), description=title)]
    return _grown([size for size, _ in points], [statistics.median(times) for times in zip(*rounds, strict=True)])


def _grown(sizes: list[float], costs: list[float]) -> dict[str, Any]:
    return {"sizes": sizes, "costs": costs, "exponent": exponent(sizes, costs)}


def users(plan: Plan) -> dict[str, Any]:
    """Seconds from read histories to images, of so many users."""
    study = build_study(plan)
    requests, pipeline = (
        build_requests(study, study.examples("test")[: max(plan.growth["users"])]),
        build_drawing(study),
    )
    return curve(plan.growth["users"], lambda count: (count, partial(pipeline, requests[:count])), "Users")


def candidates(plan: Plan) -> dict[str, Any]:
    """Seconds for images of a few users with so many candidates each."""
    study = build_study(plan)
    requests = build_requests(study, study.examples("test")[:5])

    def prepare(count: int) -> tuple[float, Callable[[], Any]]:
        balance = {**study.cfg.balance, "weights": {**study.cfg.balance.weights, "preference": [*range(1, count + 1)]}}
        return count, partial(build_drawing(study, balance=balance), requests)

    return curve(plan.growth["candidates"], prepare, "Candidates")


def history(plan: Plan) -> dict[str, Any]:
    """Seconds of reading histories and asking for keywords, by their mean number of tokens."""
    study = build_study(plan)
    examples = [example for example in study.examples("test") if len(example.history) >= max(plan.growth["history"])]
    examples, language_model = examples[: plan.batch], study.extractor.language_model
    attributes, decoding = study.extractor.scenario.attributes, study.decoding

    def prepare(items: int) -> tuple[float, Callable[[], Any]]:
        texts = study.histories([replace(example, history=example.history[:items]) for example in examples])
        tokens = sum(len(language_model.token_ids(text)) for text in texts) / len(texts)
        return tokens, lambda: decoding(language_model, language_model.prefill(texts), attributes)

    return curve(plan.growth["history"], prepare, "History")


def memory(plan: Plan) -> dict[str, Any]:
    """Peak memory in MiB of ``pmg-train`` with so many users, each in a process of its own; histories are cached."""
    peaks = []
    for count in track(plan.growth["memory"], description="Memory"):
        folder = plan.folder / f"memory-{count}"
        sizes = f"split_sizes={{train: {count}, validation: 2, test: 2}}"
        options = [f"run_dir={folder.resolve()}", sizes, "trainer.max_steps=2", "logger=none", *plan.overrides]
        command = [sys.executable, "-m", scripts()["train"], *options, "callbacks=none"]
        for _ in range(plan.warm_up + 1):
            subprocess.run(["rm", "-rf", folder], check=True)
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        metrics = json.loads((folder / "metrics.json").read_text())
        peaks.append(metrics["ledger"]["peak_memory"]["ram_mib"])
    counts = [float(count) for count in plan.growth["memory"]]
    per_user = (peaks[-1] - peaks[0]) / (counts[-1] - counts[0])
    return {**_grown(counts, peaks), "mib_per_user": per_user}


CURVES = {"users": users, "history": history, "candidates": candidates, "memory": memory}


def measure(plan: Plan) -> dict[str, Any]:
    """Every curve."""
    return {name: run(plan) for name, run in CURVES.items()}
