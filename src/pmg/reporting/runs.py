"""Run folders as a report sees them: found below any folder, read as they are, damaged ones with the reason."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from rich.console import Console
from rich.progress import track

from pmg.domain import PmgError
from pmg.paths import natural_key
from pmg.runs.run_folder import CONFIG_FILE, METRICS_FILE

# runs whose values count as those of the run that used them
JUDGED = re.compile(r"(?:generate_run|preference\.[^.]+\.run)(?:\.|$)")
LINKS = ("results_dir", "generate_run")  # folders of other parts of a run's results
# configs of runs are resolved: OmegaConf would take 100 times as long
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
UNFINISHED = {"running": "it runs still, or was killed", "interrupted": "it was interrupted"}

Item = TypeVar("Item")


@dataclass(frozen=True)
class RunFolder:
    """A run folder on disk.

    `config` has the values that decided the run's result by dotted key, without the seed: those of the generation
    that it judged and of the training whose encoder it used, too; it is empty for a damaged run.
    """

    folder: Path
    name: str  # what it is called in the report
    command: str  # its verb, e.g. "train"; empty where that can't be read
    status: str  # as in metrics.json, or "damaged"
    seed: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    scalars: Mapping[str, float] = field(default_factory=dict)  # numbers in metrics.json, those of its parts too
    cost: Mapping[str, float] = field(default_factory=dict)  # seconds, counts and peak memory, those of its parts too
    revision: str = ""  # of the code, with "+" where files were changed
    problem: str = ""  # why it counts in no mean; empty where it does
    links: Mapping[str, Path] = field(default_factory=dict)  # folders that its config names and that are there
    parts: tuple[RunFolder, ...] = ()  # runs inside its folder

    @property
    def whole(self) -> tuple[RunFolder, ...]:
        """The run and its parts."""
        return (self, *self.parts)


def read_runs(paths: Sequence[Path]) -> list[RunFolder]:
    """Reads all runs in and below `paths`, in natural order; a part of a run is no run of its own.

    PmgError if a path is no folder, holds no run, or nothing that was found can be read.
    """
    folders = find_runs(paths)
    root = Path(os.path.commonpath([folder.parent for folder in folders]))
    names = [str(folder.relative_to(root)) for folder in folders]
    names = [f"{root.name}/{name}" if name.isdigit() else name for name in names]  # jobs of a sweep are numbered
    runs = [read_folder(*one) for one in progress(list(zip(folders, names, strict=True)), "Reading runs")]
    if all(run.status == "damaged" for run in runs):
        more = f" (and {len(runs) - 1} more like it)" if len(runs) > 1 else ""
        raise PmgError(f"{runs[0].folder}: {runs[0].problem}{more}")
    return runs


def progress(items: Sequence[Item], text: str) -> Iterable[Item]:
    """A bar on the screen while the items are worked on; nothing where there is no screen."""
    return track(items, text, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """The topmost run folders in and below `paths`, each once; PmgError if one is no folder, or holds no run."""
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            raise PmgError(f"{path} is no folder; name run folders, or folders of many")
        here: list[Path] = []
        for folder, below, files in os.walk(path.resolve()):
            if METRICS_FILE in files:
                below.clear()  # deeper folders are nested runs
                here.append(Path(folder))
        if not here:
            raise PmgError(f"{path} holds no run: there is no {METRICS_FILE} in it or below")
        found |= dict.fromkeys(here)
    inner = {folder for folder in found if any(parent in found for parent in folder.parents)}
    return sorted(found.keys() - inner, key=natural_key)


def read_folder(folder: Path, name: str) -> RunFolder:
    """Reads one run with its parts; never fails, but says what is wrong."""
    try:
        return _read_whole(folder, name)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return RunFolder(folder, name, "", "damaged", problem=f"{METRICS_FILE} or {CONFIG_FILE} is damaged: {reason}")


def _read_whole(folder: Path, name: str) -> RunFolder:
    facts = json.loads((folder / METRICS_FILE).read_text())
    command = str(facts["command"])
    if "identity" not in facts:
        raise ValueError(f"there is no 'identity'. Remove {folder} and run the same pmg-{command} command again.")
    known = {"dtype": facts["dtype"]} if facts.get("dtype") else {}
    known |= _deciding(facts["identity"])
    below = sorted(folder.glob(f"*/{METRICS_FILE}"))
    parts = tuple(read_folder(path.parent, f"{name}/{path.parent.name}") for path in below)
    git, status = facts.get("git") or {}, str(facts["status"])
    own, reason = _numbers(facts.get("metrics")), " ".join((facts.get("error") or "no reason was noted").split())
    return RunFolder(
        folder, name, command, status, facts.get("seed"),
        config={**known, **_options(facts.get("overrides") or (), known)},
        scalars={name: value for part in reversed(parts) for name, value in part.scalars.items()} | own,
        cost=_cost(facts.get("ledger"), [part.cost for part in parts]),
        revision=f"{git.get('revision') or ''}{'+' if git.get('dirty') else ''}",
        problem="" if status == "completed" else UNFINISHED.get(status) or reason,
        links=_read_links(folder), parts=parts,
    )  # fmt: skip


def _read_links(folder: Path) -> dict[str, Path]:
    """Returns the existing folders that a run's config names; none for a run that ended before it had a config."""
    path = folder / CONFIG_FILE
    config = yaml.load(path.read_text(), LOADER) if path.exists() else {}
    home = str(config.get("run_dir") or folder)
    return {key: link for key in LINKS if config.get(key) and (link := _find(folder, home, str(config[key])))}


def _deciding(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The values of an identity by the names that they have in their own command: of equal ones the run's own."""
    found: dict[str, Any] = {}
    for key, value in sorted(identity.items(), key=lambda pair: len(JUDGED.findall(pair[0]))):
        while run := JUDGED.match(key):
            key = key[run.end() :]
        if key not in ("", "seed", "weights", "folder"):
            found.setdefault(key, value)
    return found


def _find(folder: Path, home: str, link: str) -> Path | None:
    """Returns the path of a linked folder, also if all folders were moved or the working directory differs."""
    if os.path.isabs(link):
        moved = Path(os.path.normpath(folder / os.path.relpath(link, os.path.abspath(home))))
        candidates: Iterable[Path] = (moved, Path(link))
    else:
        candidates = (parent / link for parent in folder.parents)
    return next((path for path in candidates if path.is_dir()), None)


def _options(overrides: Iterable[str], config: Mapping[str, Any]) -> dict[str, str]:
    """Groups whose option the command line chose, e.g. ``encoder``: ``tiny``."""
    given = (text.lstrip("+").partition("=") for text in overrides)
    named = {key.replace("/", "."): value for key, _, value in given if re.fullmatch(r"[\w.-]+", value)}
    return {key: value for key, value in named.items() if any(leaf.startswith(f"{key}.") for leaf in config)}


def _numbers(values: Mapping[str, Any] | None) -> dict[str, float]:
    return {name: value for name, value in (values or {}).items() if type(value) in (int, float)}


def _cost(ledger: Mapping[str, Any] | None, parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Counts of all, the highest peak; a run's seconds hold those of its parts already."""
    counts = dict(ledger or {})
    seconds, memory = counts.pop("seconds", {}), counts.pop("peak_memory", {})
    own: dict[str, float] = {"seconds": seconds.get("total", 0.0), **_numbers(counts), **memory}
    for part in parts:
        for name, value in part.items():
            if name.endswith("_mib"):
                own[name] = max(own.get(name, 0.0), value)
            elif name != "seconds":
                own[name] = own.get(name, 0) + value
    return own
