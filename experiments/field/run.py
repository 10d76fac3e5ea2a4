"""Tunes each published method on validation users, measures what each takes, and draws ten users by all.

python -m experiments.field.run tune outputs/field-tuning    # five trials a method; into experiments/field/tuning.json
python -m experiments.field.run costs outputs/field-costs    # each method alone; into experiments/field/costs.json
python -m experiments.field.run sheet outputs/studies/field  # experiments/field/methods.webp
python -m experiments.field.run figure                       # of the recorded results: figure.png, costs.png
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
import yaml
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    IntLogUniformDistribution,
    IntUniformDistribution,
    LogUniformDistribution,
    UniformDistribution,
)
from optuna.samplers import TPESampler
from optuna.trial import create_trial

from pmg.cache import Cache, atomic_write_json
from pmg.domain import PmgError
from pmg.evaluation.contact_sheet import image_grid
from pmg.evaluation.metric_interface import MetricInfo
from pmg.evaluation.statistics import interval
from pmg.generation.selection import pareto_front
from pmg.methods.field.benchmark import COSTS, MEASURES, Costs, read_all, read_benchmark, read_costs, write
from pmg.methods.field.page import rank_methods, user_values
from pmg.records.storage import Record, read_images, read_records
from pmg.reporting.figures import draw_methods, panels, save
from pmg.runs.provenance import hardware
from pmg.runs.run_folder import read_json

HERE = Path(__file__).resolve().parent
CONF = HERE.parents[1] / "conf"
QUESTIONS = (
    "\nIn one line, the look that all of them share:",
    "\nA sticker in the same style:",
    "\nWords for their style, separated by commas:",
    "\nThe ground, the colours and the outline of their stickers:",
    "\nThey like stickers with",
    "\nGround and colours of a sticker for them:",
    "\nThe colours, the ground, the outline and the surface that they ask for:",
    "\nWhat all of these stickers have in common:",
    "\nA sticker for them has",
    "\nTheir favourite ground, colours and outline:",
)
SPACES: dict[str, dict[str, BaseDistribution]] = {
    "after_viper": {"degree": UniformDistribution(0, 1.6), "words": IntUniformDistribution(4, 16)},
    "after_pigeon": {
        "mask": UniformDistribution(0, 1), "codes": IntLogUniformDistribution(16, 256),
        "levels": IntUniformDistribution(1, 8),
    },
    "after_drc": {
        "directions": IntLogUniformDistribution(8, 128), "shrinkage": UniformDistribution(0, 1),
        "ridge": LogUniformDistribution(0.1, 30),
    },
    "after_drum": {"temperature": LogUniformDistribution(0.02, 1), "tokens": IntUniformDistribution(12, 48)},
    "after_premier": {"shared": IntUniformDistribution(8, 44), "pictures": IntUniformDistribution(4, 12)},
    "after_navigen": {
        "question": CategoricalDistribution(QUESTIONS), "max_new_tokens": IntUniformDistribution(12, 40)
    },
    "after_instant_alignment": {"prior": UniformDistribution(0, 1), "pictures": IntUniformDistribution(4, 12)},
    "retrieve": {"known": IntLogUniformDistribution(500, 4000), "pictures": IntUniformDistribution(4, 12)},
}  # fmt: skip
"""What is varied of each method. All get the same number of trials."""
TRIALS, TUNING = 5, "tuning.json"  # trials a method and call
optuna.logging.set_verbosity(optuna.logging.WARNING)
USERS, CHANNELS, SHOWN = 48, ("pictures", "split"), 10
COST_USERS, COST_CHANNEL, READING = 24, "split", ("describe histories", "read histories", "preference ")
SECONDS, DIFFERS = (0.25, 0.5, 1, 2, 4), 0.012  # marks of the figure of costs; LPIPS by which neighbours have names


def tune(into: Path, methods: Sequence[str]) -> None:
    """Tries further values of each method on validation users, which Optuna chooses from all recorded trials.

    Without `methods` all are tried; the others' entries stay. The mean LPIPS of two channels is what is minimised.
    """
    path = HERE / TUNING
    table = json.loads(path.read_text())["methods"] if path.is_file() else {}
    asked: dict[str, list[dict[str, Any]]] = {}
    for name in methods or SPACES:
        space, known = SPACES[name], table.get(name, {"trials": []})["trials"]
        sampler = TPESampler(n_startup_trials=TRIALS, constant_liar=True, seed=len(known))
        study = optuna.create_study(sampler=sampler)
        study.add_trials(
            [create_trial(params=one["values"], distributions=space, value=one["lpips"]) for one in known]
        )
        asked[name] = [study.ask(space).params for _ in range(TRIALS)]
    begun = Cache.key(trials=asked)[:8]  # a rerun resumes the same trials
    found = {channel: run_trials(channel, into / begun / channel, asked) for channel in CHANNELS}
    for name, rows in asked.items():
        means = [sum(found[channel][f"{name}_{place}"] for channel in CHANNELS) / 2 for place in range(len(rows))]
        trials = table.get(name, {"trials": []})["trials"]
        trials += [{"values": row, "lpips": round(mean, 4)} for row, mean in zip(rows, means, strict=True)]
        table[name] = {"chosen": min(trials, key=lambda one: one["lpips"])["values"], "trials": trials}
    what = {"split": "validation", "users": USERS, "channels": CHANNELS, "methods": table}
    atomic_write_json(path, what)


def run_trials(channel: str, folder: Path, asked: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """Returns the mean LPIPS of each trial on the validation users of a channel; a finished run is taken as it is."""
    preference, method = {}, {}
    for name, rows in asked.items():
        option = yaml.safe_load((CONF / "method" / f"{name}.yaml").read_text())
        if name == "retrieve":  # other methods use its source, too
            node, method = yaml.safe_load((CONF / "preference" / "looks.yaml").read_text())[name], option[name]
            node["data"] = "${preference.retrieve.data}"
        else:
            node, method = option["preference"][name], option["method"][name]
        for place, values in enumerate(rows):
            trial = f"{name}_{place}"
            preference[trial] = {**node, **values}
            method[trial] = {key: trial if one == name else one for key, one in method.items()}
    options = folder / "conf" / "experiment"
    options.mkdir(parents=True, exist_ok=True)
    defaults = ["field", {"override /method": "none"}, "_self_"]
    trials = yaml.safe_dump({"defaults": defaults, "preference": preference, "method": method})
    (options / "trials.yaml").write_text(f"# @package _global_\n{trials}")
    shared = ["--config-dir", str(folder / "conf"), "hydra.mode=RUN"]
    overrides = [
        "experiment=trials", f"data.channel={channel}", "split=validation", f"split_sizes.validation={USERS}",
        "targets.validation=1", f"run_dir={folder}/generate",
    ]  # fmt: skip
    if not (folder / "results" / "rows.parquet").is_file():
        run("pmg-generate", *shared, *overrides)
        run(
            "pmg-evaluate",
            f"generate_run={folder}/generate",
            f"results_dir={folder}/results",
            f"run_dir={folder}/evaluate",
        )
    rows = pd.read_parquet(folder / "results" / "rows.parquet")
    return dict(rows.groupby("method")["lpips_truth"].mean())


def measure_costs(into: Path, methods: Sequence[str], more: Sequence[str]) -> None:
    """Runs each method alone, with an empty cache, and writes seconds a user and memory; the others' entries stay.

    Without `methods` all that have results are measured; `more` are further overrides, e.g. of plug-ins.
    """
    costs, drawn = read_costs(HERE), "generate"
    if costs and costs.machine["processor"] != (here := hardware()["processor"]):
        sys.exit(f"{HERE / COSTS} is of {costs.machine['processor']}, not {here}: remove it, measure all methods")
    entries = dict(costs.methods) if costs else {}
    for method in methods or sorted(read_all(HERE, read_benchmark(HERE))):
        folder = into / method
        facts = read_json(folder / "metrics.json") if (folder / "metrics.json").is_file() else {}
        if facts.get("status") != "completed":
            for begun in (folder, cache := into / f"cache-{method}"):
                shutil.rmtree(begun, ignore_errors=True)
            run(
                "pmg-generate", "experiment=field", "hydra.mode=RUN", f"data.channel={COST_CHANNEL}", "seed=0",
                f"method=[{method}]", f"split_sizes.test={COST_USERS}", f"run_dir={folder}",
                f"paths.cache_dir={cache}", "keep_contexts=false", "device=cpu", *more, threads=1,
            )  # fmt: skip
            shutil.rmtree(cache)
            facts = read_json(folder / "metrics.json")
        seconds = facts["ledger"]["seconds"]
        read = sum(value for name, value in seconds.items() if name.startswith(READING))
        entries[method] = {
            "read": round(read / COST_USERS, 3), "draw": round(seconds[drawn] / COST_USERS, 3),
            "memory_mib": facts["ledger"]["peak_memory"]["ram_mib"],
        }  # fmt: skip
        write(HERE / COSTS, Costs(
            channel=COST_CHANNEL, users=COST_USERS, machine=facts["hardware"], methods=dict(sorted(entries.items())),
            revision=(facts["git"] or {}).get("revision"),
        ))  # fmt: skip


def run(command: str, *arguments: str, threads: int | None = None) -> None:
    """Runs a command of the environment that runs this, on so many threads; None: as usual."""
    limit = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    subprocess.run([str(Path(sys.executable).with_name(command)), *arguments], check=True, env={**os.environ, **limit})


def sheet(studies: Sequence[Path], channel: str = "split") -> None:
    """Draws the first users' pictures by all recorded methods in a channel, seed 0, from the studies with them."""
    found: dict[str, dict[str, tuple[Path, Record]]] = {}
    for study in studies:
        folder = study / f"channel={channel},seed=0" / "generate"
        for record in read_records(folder):
            found.setdefault(record.method, {})[record.example] = (folder, record)
    methods = [name for name in found if (HERE / "results" / f"{name}.json").is_file()]
    if not methods:
        raise PmgError(f"{', '.join(map(str, studies))}: no method with recorded results; run first: make field")
    examples = sorted(found[methods[0]])[:SHOWN]
    pairs = [found[method][example] for example in examples for method in methods]
    images = torch.cat([read_images(folder, [record]) for folder, record in pairs])
    image_grid(images, examples, methods).save(HERE / "methods.webp", quality=90)


def figure() -> None:
    """Draws LPIPS of all recorded methods, a panel a channel: with intervals, and against their costs."""
    benchmark, costs = read_benchmark(HERE), read_costs(HERE)
    methods: dict[str, dict[str, dict[str, float]]] = {}
    found, fronts = panels(len(benchmark.channels), 5.0, 4.0)
    for channel, axis in zip(benchmark.channels, fronts, strict=True):
        results = {name: one for name, one in read_all(HERE, benchmark).items() if one.has(channel)}
        values = {name: user_values(one, benchmark, channel, MEASURES[0]) for name, one in results.items()}
        for name in rank_methods(values, lower_is_better=True):
            methods.setdefault(name, {})[channel] = asdict(interval(values[name], np.arange(len(values[name]))))
        taken = {
            name: costs.methods[name]
            for name, one in results.items()
            if costs and name in costs.methods and not one.bound
        }
        draw_costs(axis, {name: (one["read"] + one["draw"], values[name].mean()) for name, one in taken.items()})
        axis.set(
            title=channel, xlabel="seconds a user, alone on one thread", ylabel="LPIPS to truth (lower is better)"
        )
    metrics = [MetricInfo(name, f"LPIPS, {name}", higher_is_better=False) for name in benchmark.channels]
    save(draw_methods(methods, metrics, "pmg_read"), HERE / "figure.png")
    save(found, HERE / "costs.png")


def draw_costs(axis: Any, points: Mapping[str, tuple[float, float]]) -> None:
    """Draws methods by seconds and LPIPS; those than which none is both quicker and nearer have names, and a line."""
    axis.set_xscale("log")
    axis.scatter(*zip(*points.values(), strict=True), color="0.7", s=16)
    if "pmg_read" in points:
        axis.scatter(*points["pmg_read"], color="C1", zorder=3, label="pmg_read")
        axis.legend(fontsize=7)
    names = [list(points)[place] for place in pareto_front([(-seconds, -lpips) for seconds, lpips in points.values()])]
    front = {name: points[name] for name in sorted(names, key=points.__getitem__)}
    axis.step(*zip(*front.values(), strict=True), where="post", color="C0", linewidth=1)
    named: list[float] = []
    for name, point in front.items():  # those that differ, above and below the line by turns
        if not named or named[-1] - point[1] >= DIFFERS or name == list(front)[-1]:
            axis.annotate(name, point, (4, 5 - 15 * (len(named) % 2)), textcoords="offset points", fontsize=7)
            named.append(point[1])
    axis.set_xticks(SECONDS, [f"{seconds:g}" for seconds in SECONDS])
    axis.minorticks_off()
    axis.margins(0.16, 0.1)
    axis.grid(alpha=0.3)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tune", "costs", "sheet", "figure"])
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--method", nargs="+", default=(), help="these alone")
    parser.add_argument("--set", nargs="+", default=(), metavar="OVERRIDE", help="further overrides of costs' runs")
    options = parser.parse_args()
    if options.what == "tune" and (unknown := set(options.method) - set(SPACES)):
        parser.error(f"--method {min(unknown)}: nothing to tune; name some of {', '.join(SPACES)}")
    if options.what != "figure" and not options.folders:
        parser.error(f"{options.what} needs a folder")
    works: dict[str, Callable[[], None]] = {
        "tune": lambda: tune(options.folders[0], options.method),
        "costs": lambda: measure_costs(options.folders[0], options.method, options.set),
        "sheet": lambda: sheet(options.folders),
        "figure": figure,
    }
    try:
        works[options.what]()
    except PmgError as error:
        raise SystemExit(str(error)) from None
