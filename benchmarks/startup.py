"""Start-up of every command, and the time to the first training step when everything is cached."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import track

from benchmarks.stack import Plan
from benchmarks.timing import summary

ROOT = Path(__file__).resolve().parents[1]
LIMITS = {"help": 1.0, "cfg": 1.5}  # seconds, on an idle machine
SHOWN = 8  # imports that take longest, of a command above its limit


def scripts() -> dict[str, str]:
    """Modules of the commands by verb, as pyproject.toml names them."""
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    return {name.removeprefix("pmg-"): target.partition(":")[0] for name, target in found.items()}


def ways(verb: str) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Arguments and environment of what needs no model: help, config, completion."""
    if not (ROOT / "conf" / f"{verb}.yaml").exists():  # it has options of its own: pmg-report
        return {"help": (["--help"], {})}
    line = f"pmg-{verb} "  # TAB behind the command: all groups and keys
    complete = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}
    return {
        "help": (["--help"], {}),
        "cfg": (["--cfg", "job"], {}),
        "completion": (["-sc", "query=bash"], complete),
    }


def start(module: str, arguments: Sequence[str], environment: dict[str, str] | None = None) -> float:
    """Seconds that a command takes.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    began = time.perf_counter()
    command = [sys.executable, "-m", module, *arguments]
    subprocess.run(command, env={**os.environ, **(environment or {})}, check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - began


def slowest_imports(module: str) -> list[dict[str, Any]]:
    """What takes longest to import for ``--help``, with all that it imports itself."""
    command = [sys.executable, "-X", "importtime", "-m", module, "--help"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stderr.splitlines()
    rows = [line.removeprefix("import time:").split("|") for line in lines if line.startswith("import time:")]
    times = {name.strip(): int(total) / 1e6 for _, total, name in rows[1:]}
    return [{"name": name, "seconds": times[name]} for name in sorted(times, key=times.get, reverse=True)[:SHOWN]]


def first_step(plan: Plan) -> float:
    """Seconds from the start of ``pmg-train`` until the first step is in its log; it is then ended."""
    folder = plan.folder / "first_step"
    log = folder / "csv" / "version_0" / "metrics.csv"
    quick = ["trainer.log_every_n_steps=1", "+logger.csv.flush_logs_every_n_steps=1", "callbacks=none"]
    sizes = f"split_sizes={{train: {plan.users}, validation: 2, test: 2}}"
    options = [f"run_dir={folder.resolve()}", sizes, *quick, *plan.overrides]
    subprocess.run(["rm", "-rf", folder], check=True)
    began = time.perf_counter()
    command = [sys.executable, "-m", scripts()["train"], *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (log.exists() and log.stat().st_size):
        time.sleep(0.005)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"pmg-train did not come to its first step: {process.stderr.read()[-500:]}")
    process.send_signal(signal.SIGTERM)
    process.communicate()
    return seconds


def measure(plan: Plan) -> dict[str, Any]:
    """Medians over `plan.starts` starts of each command."""
    found: dict[str, Any] = {}
    modules = {verb: module for verb, module in scripts().items() if not plan.commands or verb in plan.commands}
    for verb, module in track(modules.items(), description="Start-up"):
        for way, (arguments, environment) in ways(verb).items():
            for _ in range(plan.warm_up):
                start(module, arguments, environment)
            times = [start(module, arguments, environment) for _ in range(plan.starts)]
            found.setdefault(verb, {})[way] = summary(times)
    slow = [
        verb
        for verb, times in found.items()
        if any(times[way]["median"] > LIMITS[way] for way in LIMITS.keys() & times)
    ]
    for _ in range(plan.warm_up):
        first_step(plan)
    steps = [first_step(plan) for _ in track(range(plan.starts), description="First training step")]
    imports = {verb: slowest_imports(modules[verb]) for verb in slow}
    return {"commands": found, "first_training_step": summary(steps), "imports": imports}
