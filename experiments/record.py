"""Runs studies as their study.yaml says: draws, judges, and records tables and figures in experiments/NAME.

python experiments/record.py components              # a study, with the trainings that it needs
python experiments/record.py components seed=0,1     # overrides of all its pmg- commands
python experiments/record.py                         # all studies, but for what record.yaml and study.yaml leave out
python experiments/record.py --plan                  # its commands, with hours; nothing is run
python experiments/record.py --stale                 # recorded results whose weights or data have changed since
python experiments/record.py --toy optimise          # at toy length, into outputs/toy; nothing is recorded

An interrupted run goes on when the same command is given again: finished commands aren't repeated.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pmg.cache import atomic_write_json
from pmg.configuration.schemas import read_keys
from pmg.configuration.trees import leaves
from pmg.domain import PmgError
from pmg.installation import find_assets
from pmg.reporting.studies import FOLDER, STUDY_FILE, Command, Study, read_as, read_study
from pmg.reporting.study_pages import ASSETS, CONTENTS, digest_assets
from pmg.runs.content import CONTENT, NO_CONTENT, digest_path
from pmg.runs.exit_codes import INTERRUPTED

STATE = "record.json"  # in the folder of all runs: digests of weights and data, and finished commands
HERE = Path(FOLDER)


@dataclass
class Training:
    """A training that several studies read."""

    commands: list[Command]
    after: list[str] = field(default_factory=list)


@dataclass
class Settings:
    """What record.yaml holds: shared trainings, overrides of all commands at toy length, and what isn't run."""

    trainings: dict[str, Training]
    toy: list[str]
    left_out: dict[str, str]


@dataclass(frozen=True)
class Stage:
    """A shell command that is run once."""

    of: str  # the study or the training
    command: str
    hours: float
    trains: bool


def main(options: argparse.Namespace) -> None:
    """Runs, or prints, what the options ask for."""
    settings: Settings = read_as(Settings, HERE / "record.yaml")
    names = [word for word in options.words if "=" not in word]
    overrides = [word for word in options.words if "=" in word]
    studies = {
        name: read_study(name) for name in names or sorted(path.parent.name for path in HERE.glob(f"*/{STUDY_FILE}"))
    }
    if options.stale:
        print("\n".join(f"{name}: {state}" for name, state in find_stale(studies)))
        return
    outputs = options.outputs or Path("outputs/toy" if options.toy else os.environ.get("PMG_OUTPUTS", "outputs"))
    stages = list(plan(studies, settings, overrides, toy=options.toy, named=bool(names)))
    left = {} if names else settings.left_out | {
        f"{name}: {command.run}": command.left_out
        for name, study in studies.items() for command in study.commands if command.left_out
    }  # fmt: skip
    if options.plan:
        print_plan(stages, left)
        return
    run_stages(stages, outputs)
    for name, reason in left.items():
        print(f"left out: {name} ({reason})")


def plan(
    studies: Mapping[str, Study], settings: Settings, overrides: Sequence[str], *, toy: bool, named: bool
) -> Iterator[Stage]:
    """Yields the stages of studies, each once, a training before what reads it.

    Args:
        studies: by name.
        settings: with the trainings.
        overrides: of all pmg- commands.
        toy: whether at toy length.
        named: whether the studies were asked for by name: what is left out otherwise is run, too.
    """
    done: set[str] = set()

    def add(of: str, commands: Sequence[Command], own: Sequence[str], *, trains: bool) -> Iterator[Stage]:
        for command in commands:
            if command.run in done or (toy and command.toy is None) or (command.left_out and not (named or toy)):
                continue
            done.add(command.run)
            words = command.run
            if words.startswith("pmg-") and not words.startswith("pmg-report"):
                added = [*overrides, *(read_by(words, settings.toy) if toy else []), *own]
                words = " ".join([words, *map(shlex.quote, added)])
            yield Stage(of, f"{words} {command.toy}".rstrip() if toy else words, command.hours, trains)

    def train(name: str) -> Iterator[Stage]:
        training = settings.trainings[name]
        for before in training.after:
            yield from train(before)
        yield from add(name, training.commands, [], trains=True)

    for name, study in studies.items():
        own = study.toy if toy else []
        for training in study.trainings:
            yield from train(training)
        stages = list(add(name, study.commands, own, trains=False))
        yield from stages
        if stages and (study.tables or (study.results and not named and not toy)):
            into = ["--into", "$PMG_OUTPUTS/tables"] if toy else []
            yield Stage(name, " ".join(["pmg-report", "--study", name, *into]), 0.0, trains=False)


def read_by(command: str, overrides: Sequence[str]) -> list[str]:
    """Returns those of some overrides whose key a command line's program reads."""
    keys = read_keys(command.split()[0].removeprefix("pmg-"))
    return [one for one in overrides if one.partition("=")[0].partition(".")[0] in {*keys, "hydra"}]


def print_plan(stages: Sequence[Stage], left: Mapping[str, str]) -> None:
    """Prints the stages, the hours of trainings and of studies apart, and what is left out."""
    for stage in stages:
        print(f"{stage.of:15} {stage.hours:5.2f} h  {stage.command}")
    for title, trains in (("trainings", True), ("studies", False)):
        print(f"{title}: {sum(stage.hours for stage in stages if stage.trains == trains):.1f} hours of two cores")
    for name, reason in left.items():
        print(f"left out: {name} ({reason})")


def run_stages(stages: Sequence[Stage], outputs: Path) -> None:
    """Runs the stages that aren't finished yet.

    Raises:
        PmgError: a command failed, or `outputs` has runs of other weights or data.
    """
    path, assets = outputs / STATE, digest_all()
    state: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"assets": assets, "done": {}}
    if changed := [name for name in assets if state["assets"].get(name) != assets[name]]:
        raise PmgError(
            f"{path} is of other weights or data: {', '.join(changed)}. Name another folder: --outputs NEW."
        )
    atomic_write_json(path, state)
    for number, stage in enumerate(stages, 1):
        key = hashlib.sha256(stage.command.encode()).hexdigest()
        if key in state["done"] and not stage.command.startswith("pmg-report"):
            print(f"[{number}/{len(stages)}] finished before: {stage.command}", flush=True)
            continue
        print(f"[{number}/{len(stages)}] {stage.command}", flush=True)
        start = time.monotonic()
        if code := run_command(stage.command, outputs):
            if code in (INTERRUPTED, -signal.SIGINT):
                raise KeyboardInterrupt
            raise PmgError(f"a command of {stage.of} failed with exit code {code}: {stage.command}. Run it by itself.")
        seconds = round(time.monotonic() - start, 1)
        state["done"][key] = {"of": stage.of, "command": stage.command, "seconds": seconds}
        atomic_write_json(path, state)


def run_command(command: str, outputs: Path) -> int:
    """Runs a shell command, whose programs are this interpreter's, and returns its exit code.

    SIGINT and SIGTERM are passed on, and the command may end and save; KeyboardInterrupt is raised after a SIGINT.
    """
    programs = Path(sys.executable).parent
    variables = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PMG_OUTPUTS": str(outputs)}
    process = subprocess.Popen(["/bin/sh", "-ec", command], env=variables, start_new_session=True)
    signal.signal(signal.SIGTERM, lambda number, _: os.killpg(process.pid, number))
    try:
        return process.wait()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGINT)
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def digest_all() -> dict[str, str]:
    """Returns the digest of each folder of weights and data by its name."""
    folders = sorted(path for path in Path(find_assets()).iterdir() if path.is_dir() and not path.name.startswith("."))
    digests = digest_assets(*(path.name for path in folders))
    return {place.removeprefix(f"{ASSETS}/"): digest for place, digest in digests.items()}


def find_stale(studies: Mapping[str, Study]) -> Iterator[tuple[str, str]]:
    """Yields each file of recorded results with its state: current, stale, or unknown, and why.

    Results name the weights and data that they read, with digests. Earlier ones have no digests, but the revision of
    the code: git says whether the files are as they were there.
    """
    for name in studies:
        for path in sorted((HERE / name).rglob("*.json")):
            results = json.loads(path.read_text())
            if isinstance(results, dict) and (state := describe_state(results)):
                yield str(path), state


def describe_state(results: Mapping[str, Any]) -> str:
    """Returns whether the weights and data of results are as they were, and why; empty: nothing is known of them."""
    runs = [run for run in results.get("runs") or [] if isinstance(run, dict)]
    recorded: dict[str, set[str]] = {}
    places, revisions = set(), set()
    for part in [{**results, "runs": None}, *runs]:
        digests = part.get(CONTENTS) or {}
        values = {key: value for key, value in leaves({**part, CONTENTS: None}) if isinstance(value, str)}
        for key, digest in values.items():
            if key.endswith(f".{CONTENT}") and (place := values.get(key.removesuffix(f".{CONTENT}"))):
                digests = {**digests, place: digest}
        for place, digest in digests.items():
            recorded.setdefault(place, set()).add(digest)
        places |= {value for value in values.values() if value.startswith(f"{ASSETS}/")}
        revisions |= {value for key, value in values.items() if key.rpartition(".")[2] == "revision"}
    if known := {place: digests for place, digests in recorded.items() if place.startswith(ASSETS)}:
        changed = [place for place, digests in known.items() if digests != {digest_path(_path(place))}]
        return f"stale: {', '.join(changed)} changed" if changed else "current, by its digests"
    if not places and not revisions:
        return ""
    if unknown := [one for one in revisions if _git("cat-file", "-e", f"{one}^{{commit}}")]:
        return f"unknown: no digests, and no revision {', '.join(one[:8] for one in unknown)} in this repository"
    paths = [str(_path(place)) for place in sorted(places) or [ASSETS]]
    since = ", ".join(sorted({name for one in revisions for name in _changed_files(one, paths)}))
    if not places:
        return f"unknown: it doesn't name what it read; changed since: {since or 'nothing'}"
    return f"stale: changed since: {since}" if since else "current, by its revisions"


def _changed_files(revision: str, paths: Sequence[str]) -> list[str]:
    """Returns the files in some folders that differ from those of a revision, without documents."""
    without = [f":(exclude,glob)**/*{ending}" for ending in NO_CONTENT]
    command = ["git", "diff", "--name-only", revision, "--", *paths, *without]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()


def _path(place: str) -> Path:
    return Path(place.replace(ASSETS, find_assets()))


def _git(*arguments: str) -> int:
    return subprocess.run(["git", *arguments], capture_output=True, check=False).returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="NAME|KEY=VALUE", help="studies (none: all), and overrides")
    parser.add_argument("--plan", action="store_true", help="print the commands with hours, and run nothing")
    parser.add_argument("--stale", action="store_true", help="print whether recorded results are of today's weights")
    parser.add_argument("--toy", action="store_true", help="at toy length: do the commands run? Records nothing")
    parser.add_argument("--outputs", type=Path, metavar="FOLDER", help="of all runs ($PMG_OUTPUTS, or outputs)")
    try:
        main(parser.parse_args())
    except PmgError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted; give the same command again", file=sys.stderr)
        sys.exit(INTERRUPTED)
