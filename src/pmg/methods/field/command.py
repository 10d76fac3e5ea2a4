"""``pmg-report field``: checks submissions to the benchmark of methods, and makes its tables."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pmg.commands.report import Parser
from pmg.domain import PmgError
from pmg.methods.field.benchmark import BENCHMARK, RESULTS, Benchmark, read_all, read_benchmark, write
from pmg.methods.field.page import PAGE, write_page
from pmg.methods.field.submission import Study, check_study, choose, find_studies, fixed_settings, gather

ABOUT = """pmg-report field: checks submissions to the benchmark of methods, and makes its tables.

A submission is the folder of pmg-study experiment=field: one run a channel and seed, with one or several methods.
docs/field.md has the rules.
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = Parser("pmg-report field", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    add, default = parser.add_argument, Path("experiments/field")
    add("--add", nargs="+", type=Path, default=[], metavar="RUNS", help="folders of runs to check and add")
    add("--method", nargs="+", metavar="NAME", help="add these methods alone (default: all that the runs have)")
    add("--replace", action="store_true", help="results of a method of the same name, but with other settings")
    add("--define", type=int, metavar="VERSION", help="of a new benchmark, with world and users of the runs")
    add("--folder", type=Path, default=default, metavar="FOLDER", help="of the benchmark (%(default)s)")
    return parser.parse_args(arguments)


def run(arguments: Sequence[str]) -> str:
    """Adds runs, if there are any, and makes the page anew; returns its path. After a PmgError nothing was written."""
    options = parse(arguments)
    if not options.add and (options.define is not None or options.method or options.replace):
        raise PmgError("--define, --method and --replace need runs: --add RUNS")
    folder, studies = options.folder, find_studies(options.add) if options.add else []
    benchmark = read_benchmark(folder) if options.define is None else define(studies, options.define, folder)
    for study in studies:
        check_study(study, benchmark)
    known = {} if options.define is not None else read_all(folder, benchmark)
    added = {name: gather(studies, name, benchmark) for name in (choose(options.method, studies) if studies else [])}
    for name in [name for name in added if name in known]:
        if known[name].settings == added[name].settings:
            added[name] = added[name].beside(known[name])
        elif not options.replace:
            raise PmgError(f"{folder} has a '{name}' of other settings: rename, or --replace it")
    write(folder / BENCHMARK, benchmark)
    for name, result in added.items():
        write(folder / RESULTS / f"{name}.json", result)
    write_page(folder, benchmark, known | added)
    return str(folder / PAGE)


def define(studies: Sequence[Study], version: int, folder: Path) -> Benchmark:
    """Returns a benchmark of the world, the users, the channels and the seeds of studies, with one candidate.

    PmgError if the folder has another benchmark of this version or a later one.
    """
    cells = [study.cell.split("/") for study in studies]
    rows = studies[0].rows[studies[0].rows["control"] == "own"]
    found = Benchmark(
        version=version,
        channels=tuple(dict.fromkeys(channel for channel, _ in cells)),
        seeds=tuple(sorted({int(seed) for _, seed in cells})),
        candidates=1,
        settings=fixed_settings(studies[0].identity),
        groups=dict(sorted(zip(rows["example"], rows["group"], strict=True))),
    )
    if (folder / BENCHMARK).is_file():
        before = read_benchmark(folder)
        if before != found and before.version >= version:
            raise PmgError(f"{folder} has version {before.version} of the benchmark, which differs: name a later one")
        if before != found and any((folder / RESULTS).glob("*.json")):
            raise PmgError(f"{folder / RESULTS} has results of version {before.version}: move them away first")
    return found
