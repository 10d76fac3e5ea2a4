"""``pmg-report``: makes one table, figures and a page of any set of runs."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from pmg import __version__
from pmg.cache import atomic_write_bytes, atomic_write_text
from pmg.configuration.plugins import report_commands
from pmg.domain import PmgError
from pmg.installation import install_extra
from pmg.orchestration.launcher import reader_may_leave, terminated
from pmg.runs.exit_codes import INTERRUPTED
from pmg.runs.owned_folders import LOCK, OWNER, claim, locked
from pmg.runs.run_folder import read_json

ABOUT = """pmg-report: makes one table, figures and a page of any set of runs.

Name run folders, or folders of many (a sweep, a study); parts of a run are no runs of their own.

  index.html      summary, figures and samples; opens in a browser without a server
  summary.md      means with intervals of runs that differ in the seed alone, the best in bold
  table.parquet   one row a run, method and metric, with what varies, cost and revision; table.csv is the same
  figures/        main effects, accuracy against preference by alpha, learning curves
"""
EXAMPLES = """examples:
  pmg-report outputs/studies/history
  pmg-report outputs/train/one outputs/train/two --into outputs/compared
  pmg-report --study ablations   # the tables and figures of experiments/ablations/study.yaml
"""
INDEX, SUMMARY, FIGURES = "index.html", "summary.md", "figures"
OUTPUTS = Path(os.environ.get("PMG_OUTPUTS", "outputs"))


def write_report(paths: Sequence[Path], into: Path, command: str) -> None:
    """Writes the report of all runs in and below `paths`.

    PmgError if there is nothing to report, `into` holds something else, or matplotlib is missing.
    """
    check_place(into)
    with needs_extra():
        from pmg.evaluation.table_rendering import to_markdown
        from pmg.reporting.report import build_report, render

    report, table = build_report(paths, command)
    with locked([into], "report"):
        claim([into], into, "report", {})
        for figure in (into / FIGURES).glob("*.png"):
            figure.unlink()  # of an earlier report
        for picture in report.pictures:
            atomic_write_bytes(into / FIGURES / f"{picture.name}.png", picture.content)
        atomic_write_bytes(into / "table.parquet", table.to_parquet(index=False))
        atomic_write_text(into / "table.csv", table.to_csv(index=False))
        shown = [one for one in (*report.summary, report.problems, report.runs) if one.rows]
        opening = f"{report.answer}\n\n" if report.answer else ""
        atomic_write_text(into / SUMMARY, f"# {report.title}\n\n{opening}{to_markdown(shown, report.footnote)}")
        atomic_write_text(into / INDEX, render(report))


def write_study_report(name: str, into: Path | None) -> list[Path]:
    """Writes the tables and figures of a study into the folder of studies, or another one; returns the tables' files.

    PmgError if there is no such study, it has no finished run, or matplotlib is missing.
    """
    with needs_extra():
        from pmg.reporting.studies import FOLDER
        from pmg.reporting.study_report import report_study

    return report_study(name, OUTPUTS, into or Path(FOLDER))


@contextmanager
def needs_extra() -> Iterator[None]:
    """Turns a missing module that is imported inside into a PmgError that names the extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise PmgError(f"pmg-report needs {package}: {install_extra('report')}") from error


def check_place(into: Path) -> None:
    """Refuses, by PmgError, a folder that holds something else than an earlier report."""
    if into.exists() and not into.is_dir():
        raise PmgError(f"--into {into} is a file; name a folder")
    if read_json(into / OWNER).get("command") == "report":
        return
    if into.is_dir() and any(path.name != LOCK for path in into.iterdir()):
        raise PmgError(f"--into {into} holds something else than a report; name a new folder")


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all commands do."""

    def error(self, message: str) -> NoReturn:
        """Prints the message and exits with code 1."""
        print(f"error: {message}; see {self.prog} --help", file=sys.stderr)
        sys.exit(1)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = Parser(
        "pmg-report", description=ABOUT, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"pmg {__version__}")
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUNS", help="folders of runs, or of many")
    parser.add_argument("--study", metavar="NAME", help="write what experiments/NAME/study.yaml says, of its own runs")
    place = f"{OUTPUTS}/report; with --study: experiments"
    parser.add_argument("--into", type=Path, metavar="FOLDER", help=f"of the report ({place})")
    options = parser.parse_args(arguments)
    if not options.runs and not options.study:
        parser.error("the following arguments are required: RUNS, or --study NAME")
    if options.runs and options.study:
        parser.error("argument --study: not allowed with RUNS")
    return options


@reader_may_leave()
def main() -> None:
    """Console entry point."""
    signal.signal(signal.SIGTERM, terminated)
    arguments, others = sys.argv[1:], report_commands()
    try:
        if arguments and arguments[0] in others:
            print(others[arguments[0]].load()(arguments[1:]))
            return
        options = parse(arguments)
        if options.study:
            print(*write_study_report(options.study, options.into), sep="\n")
            return
        into = options.into or OUTPUTS / "report"
        write_report(options.runs, into, shlex.join(["pmg-report", *arguments]))
        print(into / INDEX)
    except PmgError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(f"error: can't write {error.filename or 'the report'}: {error.strerror}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted; give the same command again", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
