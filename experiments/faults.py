"""Kills and damages runs, gives commands bad input, and writes what became of it into experiments/faults.

python experiments/faults.py
python experiments/faults.py --kills 2 --into outputs/faults --jobs 4
python experiments/faults.py --kills 0
python experiments/faults.py --attacks
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd
from content_attacks import attack_contents
from damage import break_all
from foreign_folders import attack_folders
from hostile import attack
from inputs import ask, read_inputs
from kills import kill_all, run_undisturbed
from record import fill
from rich.progress import track
from stages import furnish

from pmg.runs.provenance import git_state

HERE = Path(__file__).resolve().parent


def try_inputs(place: Path, whole: Path) -> list[dict[str, Any]]:
    """What every bad input was answered with; `whole` holds finished runs, which some of them name."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    cases = [*read_inputs(), *read_inputs("folders")]
    furnish(place, whole, ["train", "generate", "evaluate", "cache"])
    before = Path.cwd()
    os.chdir(place)
    try:
        answers = [ask(*case) for case in track(cases, "bad inputs")]
    finally:
        os.chdir(before)
    return [
        {"command": a.command, "said": " / ".join(a.lines), "clear": a.clear, "unchanged": a.unchanged}
        for a in answers
    ]


def kills_table(kills: pd.DataFrame) -> str:
    """One row a command."""
    rows = [
        (
            name, len(rows), rows["trial"].nunique(), int((rows["finished"] > 0).sum()), int(rows["twice"].sum()),
            int(rows["mixed"].sum()), f"{rows['equal'].sum()} of {len(rows)}",
        )
        for name, rows in kills.groupby("stage", sort=False)
    ]  # fmt: skip
    pieces = ("with finished pieces", "pieces made twice", "files of two runs")
    return _table(("command", "kills", "runs", *pieces, "result equal"), rows)


def faults_table(faults: Sequence[dict[str, Any]]) -> str:
    """One row a fault."""
    said = [row["said"] if row["code"] else "nothing: it helped itself" for row in faults]
    rows = [
        (row["fault"], row["command"], line, "equal" if row["equal"] else "**differs**")
        for row, line in zip(faults, said, strict=True)
    ]
    return _table(("fault", "command", "what it said", "the result in the end"), rows)


def hostile_table(rows: Sequence[dict[str, Any]]) -> str:
    """One row a kind of pipeline."""
    head = ("pipeline", "hostile indices", "refused in one line", "ran, imported or wrote something")
    return _table(head, [(row["base"], row["tried"], row["refused"], row["acted"]) for row in rows])


def inputs_table(inputs: Sequence[dict[str, Any]]) -> str:
    """One row a bad input."""
    rows = [(f"`{row['command']}`", row["said"], "yes" if row["clear"] else "**no**") for row in inputs]
    return _table(("command", "what it said", "one clear line"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)


def _portable(text: str, place: Path) -> str:
    """Without the folders of this machine."""
    return text.replace(f"{place}/", "").replace(f"{HERE.parent}/", "")


def attacks_table(contents: Sequence[dict[str, Any]], folders: Sequence[dict[str, Any]]) -> str:
    """One row a kind of attack, and below it those that succeeded."""
    mixed, changed = [row for row in contents if row["mixed"]], [row for row in folders if row["changed"]]
    head = ("attack", "tried", "refused or without effect", "succeeded")
    rows = [
        ("what a run read or made is exchanged", len(contents), len(contents) - len(mixed), len(mixed)),
        ("a command is told to write into a foreign folder", len(folders), len(folders) - len(changed), len(changed)),
    ]
    names = [(row["command"], row["attack"], row["said"] or "nothing") for row in mixed]
    names += [(row["command"], row["target"], row["said"] or "nothing") for row in changed]
    return f"{_table(head, rows)}\n\n{_table(('command', 'that succeeded', 'what it said'), names)}"


def record_attacks(place: Path, into: Path) -> None:
    """Runs content attacks and foreign folders, and records them; the folder `place` is made anew."""
    shutil.rmtree(place, ignore_errors=True)
    run_undisturbed(place / "whole")
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        made = pool.submit(attack_contents, place / "contents", place / "whole")
        folders = pool.submit(attack_folders, place / "folders").result()
        contents = made.result()
    found = {"revision": (git_state() or {}).get("revision"), "contents": contents, "folders": folders}
    (into / "attacks.json").write_text(_portable(json.dumps(found, indent=1, ensure_ascii=False), place) + "\n")
    fill(into / "README.md", "attacks", _portable(attacks_table(contents, folders), place))


def main(kills: int, place: Path, into: Path, jobs: int) -> None:
    """Does it all, `jobs` commands at once; the folder `place` is made anew.

    Without kills, earlier kills and faults stay as recorded.
    """
    now = (git_state() or {}).get("revision")
    if kills:
        killed = pd.DataFrame(kill_all(kills, place, jobs=jobs))
        revision, faults = now, break_all(place, place / "whole", jobs)
    else:
        shutil.rmtree(place, ignore_errors=True)
        run_undisturbed(place / "whole")
        killed = pd.read_csv(into / "kills.csv")
        revision, faults = itemgetter("revision", "faults")(json.loads((into / "results.json").read_text()))
    inputs = try_inputs(place / "inputs", place / "whole")
    hostile = attack(place / "hostile")
    into.mkdir(parents=True, exist_ok=True)
    if kills:
        killed.to_csv(into / "kills.csv", index=False)
    found = {
        "revision": revision, "faults": faults, "inputs_revision": now, "inputs": inputs, "hostile": hostile,
    }  # fmt: skip
    text = json.dumps(found, indent=2, ensure_ascii=False)
    (into / "results.json").write_text(_portable(text, place) + "\n")
    tables = (kills_table(killed), faults_table(faults), hostile_table(hostile), inputs_table(inputs))
    table = _portable("\n\n".join(tables), place)
    (into / "table.md").write_text(table + "\n")
    if (into / "README.md").exists():
        fill(into / "README.md", "faults", table)
    shutil.rmtree(place)
    print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=8, help="of each stage; 0: inputs and pipelines alone")
    parser.add_argument("--place", type=Path, default=HERE.parent / "outputs" / "faults", help="folder of the runs")
    parser.add_argument("--jobs", type=int, default=2, help="commands at once")
    parser.add_argument("--into", type=Path, default=HERE / "faults", help="folder of the tables")
    parser.add_argument("--attacks", action="store_true", help="record attacks on contents and folders alone")
    options = parser.parse_args()
    if options.attacks:
        record_attacks(options.place.resolve(), options.into)
    else:
        main(options.kills, options.place.resolve(), options.into, options.jobs)
