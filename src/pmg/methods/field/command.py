"""``pmg-report field``: checks submissions to the benchmark of methods, and makes its tables."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pmg.domain import PmgError
from pmg.methods.field.benchmark import BENCHMARK, RESULTS, Benchmark, read_all, read_benchmark, write
from pmg.methods.field.page import PAGE, write_page
from pmg.methods.field.submission import Study, check_study, choose, find_studies, fixed_settings, gather, methods_of

ABOUT = """pmg-report field: checks submissions to the benchmark of methods, and makes its tables.

A submission is the folder of pmg-study experiment=field: one run a channel and seed, with one or several methods.
docs/field.md has the rules.
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        "pmg-report field", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--add", nargs="+", type=Path, default=[], metavar="RUNS", help="folders of runs to check and add"
    )
    parser.add_argument("--method", nargs="+", metavar="NAME", help="add these methods alone (all that the runs have)")
    parser.add_argument(
        "--define",
        type=int,
        metavar="VERSION",
        help="a new version of the benchmark, with world and users of the runs",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("experiments/field"),
        metavar="FOLDER",
        help="of the benchmark (%(default)s)",
    )
    return parser.parse_args(arguments)


def run(arguments: Sequence[str]) -> str:
    """Adds runs, if there are any, and makes the page anew; returns its path. PmgError if a submission is refused."""
    options = parse(arguments)
    if options.define and not options.add:
        raise PmgError("--define needs runs: --add RUNS, whose world and users become the benchmark's")
    studies = find_studies(options.add) if options.add else []
    if options.define:
        write(options.folder / BENCHMARK, define(studies, options.define))
    benchmark = read_benchmark(options.folder)
    for study in studies:
        check_study(study, benchmark)
    names = choose(options.method, methods_of(studies)) if studies else []
    for result in [gather(studies, name, benchmark) for name in names]:  # all are checked before one is written
        write(options.folder / RESULTS / f"{result.method}.json", result)
    write_page(options.folder, benchmark, read_all(options.folder, benchmark))
    return str(options.folder / PAGE)


def define(studies: Sequence[Study], version: int) -> Benchmark:
    """Returns a benchmark of the world, the users, the channels and the seeds of studies, with one candidate."""
    cells = [study.cell.split("/") for study in studies]
    rows = studies[0].rows[studies[0].rows["control"] == "own"]
    return Benchmark(
        version=version,
        channels=tuple(dict.fromkeys(channel for channel, _ in cells)),
        seeds=tuple(sorted({int(seed) for _, seed in cells})),
        candidates=1,
        settings=fixed_settings(studies[0].identity),
        groups=dict(sorted(zip(rows["example"], rows["group"], strict=True))),
    )
