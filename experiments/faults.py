"""Kills and damages runs, gives commands bad input, and writes what became of it into experiments/faults.

python experiments/faults.py
python experiments/faults.py kills --kills 2 --into outputs/faults --jobs 4
python experiments/faults.py inputs hostile
python experiments/faults.py attacks limits
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
from content_attacks import attack_contents
from damage import break_all
from foreign_folders import attack_folders
from hostile import attack
from inputs import ask, read_inputs
from kills import kill_all, run_undisturbed
from limits import attack_limits
from rich.progress import track
from stages import furnish

from pmg.cache import atomic_write_text
from pmg.reporting.study_pages import fill
from pmg.runs.provenance import git_state

HERE = Path(__file__).resolve().parent
PARTS = ("kills", "faults", "inputs", "hostile", "attacks", "limits")
OURS = ".made_by_faults"  # file in the folder of the runs, without which a folder is not removed


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


def _counts(head: Sequence[str], rows: Sequence[Any], names: Sequence[str], found: Sequence[Any]) -> str:
    """Returns a table of counts and, where anything was found, a second one that names it."""
    return "\n\n".join([_table(head, rows), *([_table(names, found)] if found else [])])


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
    return _counts(head, rows, ("command", "that succeeded", "what it said"), names)


def limits_table(rows: Sequence[dict[str, Any]]) -> str:
    """How many folders did harm, and below it those."""
    harmed = [row for row in rows if row["harm"]]
    head = ("folders of somebody who means harm", "tried", "refused in one line", "loaded, without harm", "harm")
    refused = sum(bool(row["code"]) and not row["harm"] for row in rows)
    counts = ("pipelines, models, data sets", len(rows), refused, len(rows) - refused - len(harmed), len(harmed))
    names = [(row["pipeline"], row["harm"], row["said"]) for row in harmed]
    return _counts(head, [counts], ("folder", "harm", "what it said"), names)


def try_limits(place: Path) -> list[dict[str, Any]]:
    """Returns what became of hostile folders; `place` holds undisturbed runs, a tiny pipeline among them."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:  # its children must not have computed
        return pool.submit(attack_limits, place / "limits", place / "whole" / "export" / "pipeline").result()


def make_attacks(place: Path) -> dict[str, Any]:
    """Returns what became of content attacks and foreign folders; `place` holds undisturbed runs in ``whole``."""
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        made = pool.submit(attack_contents, place / "contents", place / "whole")
        folders = pool.submit(attack_folders, place / "folders").result()
        return {"contents": made.result(), "folders": folders}


def empty_place(folder: Path) -> Path:
    """Returns where runs go in a folder that is made anew.

    Raises:
        SystemExit: there is such a folder with files, and this script didn't make it.
    """
    if folder.exists() and not (folder / OURS).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SystemExit(f"{folder} is not of this script, which would remove it: remove it, or name another --place")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / OURS).touch()
    return folder / "runs"


def main(parts: Sequence[str], kills: int, folder: Path, into: Path, jobs: int) -> None:
    """Records the parts of `PARTS` that are named, `jobs` commands at once; `folder`, that of the runs, is made anew.

    Each is written into `into` when it is finished; the others stay as recorded.
    """
    place = empty_place(folder)
    path, revision = into / "results.json", (git_state() or {}).get("revision")
    if "kills" in parts:
        _record(path, "kills", kill_all(kills, place, jobs=jobs), revision, place)
    else:
        run_undisturbed(place / "whole")
    works: dict[str, Callable[[], Any]] = {
        "faults": lambda: break_all(place, place / "whole", jobs),
        "inputs": lambda: try_inputs(place / "inputs", place / "whole"),
        "hostile": lambda: attack(place / "hostile"),
        "attacks": lambda: make_attacks(place),
        "limits": lambda: try_limits(place),
    }
    for name, work in works.items():
        if name in parts:
            _record(path, name, work(), revision, place)
    write_tables(json.loads(path.read_text()), into)
    shutil.rmtree(folder)


def _record(path: Path, name: str, found: Any, revision: str | None, place: Path) -> None:
    """Adds a part's result to the recorded ones."""
    recorded = json.loads(path.read_text()) if path.exists() else {}
    recorded[name] = {"revision": revision, "found": found}
    atomic_write_text(path, _portable(json.dumps(recorded, indent=1, ensure_ascii=False), place) + "\n")


def write_tables(recorded: dict[str, Any], into: Path) -> None:
    """Writes the tables of all recorded parts into table.md and README.md."""
    tables = {
        "kills": lambda found: kills_table(pd.DataFrame(found)),
        "faults": faults_table,
        "hostile": hostile_table,
        "inputs": inputs_table,
        "attacks": lambda found: attacks_table(found["contents"], found["folders"]),
        "limits": limits_table,
    }
    written = {name: write(recorded[name]["found"]) for name, write in tables.items() if name in recorded}
    table = "\n\n".join(text for name, text in written.items() if name not in ("attacks", "limits"))
    atomic_write_text(into / "table.md", "\n\n".join(written.values()) + "\n")
    if (into / "README.md").exists():
        fill(into / "README.md", "faults", table)
        fill(into / "README.md", "attacks", f"{written.get('attacks', '')}\n\n{written.get('limits', '')}")
    print("\n\n".join(written.values()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}; none: all")
    parser.add_argument("--kills", type=int, default=8, help="of each stage")
    parser.add_argument("--place", type=Path, default=HERE.parent / "outputs" / "faults", help="folder of the runs")
    parser.add_argument("--jobs", type=int, default=2, help="commands at once")
    parser.add_argument("--into", type=Path, default=HERE / "faults", help="folder of the tables")
    options = parser.parse_args()
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"no part '{unknown[0]}'; there are {', '.join(PARTS)}")
    main(options.parts, options.kills, options.place.resolve(), options.into, options.jobs)
