"""The benchmark: ratios of PMG's ways to the naive ones, within one run on one machine.

python -m benchmarks.speed
python -m benchmarks.speed --only startup kernels
python -m benchmarks.speed --smoke --into outputs/smoke/speed

Each part is kept in ``outputs/speed`` when it is done; the same command goes on with those that are missing.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from benchmarks import diffusers_loop, generation, growth, kernels, keywords, limit, startup, training
from benchmarks.report import write_report
from benchmarks.stack import Plan, full, smoke
from pmg.cache import atomic_write_json
from pmg.configuration.precision import has_bfloat16
from pmg.reporting.study_pages import fill
from pmg.runs.process_state import keep_freed_memory
from pmg.runs.provenance import git_state, hardware, versions

HERE = Path(__file__).resolve().parent
PARTS = {
    "training": training.measure,
    "generation": generation.measure,
    "diffusers": diffusers_loop.measure,
    "keywords": keywords.measure,
    "startup": startup.measure,
    "kernels": kernels.measure,
    "growth": growth.measure,
    "limit": limit.measure,
}


def origin() -> dict[str, Any]:
    """Where a part was measured; the load is that of the minute before, so it says whether the machine was idle."""
    machine = {"machine": hardware(), "bfloat16": has_bfloat16(), "threads": torch.get_num_threads()}
    found = {**machine, "load": round(os.getloadavg()[0], 2)}
    return {**found, "versions": versions(), "revision": (git_state() or {}).get("revision")}


def measure_parts(plan: Plan, names: list[str]) -> dict[str, Any]:
    """Measures what is asked for, or what is missing; gives all parts that there are."""
    for name, measure in PARTS.items():
        file = plan.folder / f"{name}.json"
        if name in names or not (names or file.exists()):
            print(f"{name}:", flush=True)
            where = origin()
            atomic_write_json(file, {**measure(plan), "origin": where})
    files = {name: plan.folder / f"{name}.json" for name in PARTS}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}


def _hush() -> None:
    """Keeps libraries' own talk from between the progress bars."""
    for library, level in (("pytorch_lightning", logging.WARNING), ("bitsandbytes", logging.ERROR)):
        logging.getLogger(library).setLevel(level)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    transformers_logging.disable_progress_bar()


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[], help="measure these parts again, no others")
    parser.add_argument("--smoke", action="store_true", help="toy length on tiny models, from the start: does it run?")
    parser.add_argument("--into", type=Path, default=HERE / "speed", help="folder of tables and figures")
    options = parser.parse_args()
    _hush()
    keep_freed_memory()
    folder = Path("outputs/smoke/speed-parts" if options.smoke else "outputs/speed").resolve()
    if options.smoke and not options.only:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    table = write_report(measure_parts((smoke if options.smoke else full)(folder), options.only), options.into)
    if (options.into / "README.md").exists():
        fill(options.into / "README.md", "speed", table)
    print(*sorted(options.into.glob("*")), sep="\n")


if __name__ == "__main__":
    main()
