"""What runs leave to be reported: judged rows, learning curves, and records with their images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pmg.domain import PmgError
from pmg.evaluation.report import COLUMNS
from pmg.generation.records import RECORDS, Record, read_records
from pmg.natural_order import natural_key
from pmg.reporting.runs import RunFolder, progress

JUDGES = ("evaluate", "study", "keywords")
TRAINERS = ("train", "pretrain")


@dataclass(frozen=True)
class Evidence:
    """What a set of runs leaves, by the number of the run.

    Attributes:
        rows: an image a row, as `pmg.evaluation.report.build_results` takes them; of completed runs alone.
        sets: metrics of whole sets by name and method, see `pmg.evaluation.distribution_metrics.measure_sets`.
        curves: metrics by ``step``, resumed versions joined.
        records: with the folder that their images lie in.
        problems: what could not be read.
    """

    rows: dict[int, pd.DataFrame]
    sets: dict[int, Mapping[str, Mapping[str, Mapping[str, float]]]]
    curves: dict[int, pd.DataFrame]
    records: dict[int, tuple[Path, list[Record]]]
    problems: dict[int, str]


def gather(runs: Sequence[RunFolder]) -> Evidence:
    """Reads everything; what is damaged is named in `problems`, and the rest is used all the same."""
    found = Evidence({}, {}, {}, {}, {})
    taken: set[Path] = set()
    for number, run in enumerate(progress(runs, "Reading results")):
        try:
            found.curves.update({number: curve} if (curve := read_curves(run)) is not None else {})
            if not run.problem and (file := _rows_file(run)):
                found.rows[number] = _read_rows(file)
                found.sets[number] = _read_sets(file.parent / "results.json")
                taken |= {part.links["generate_run"] for part in run.whole if "generate_run" in part.links}
            folder = _records_folder(run, runs)
            if folder:
                found.records[number] = folder, read_records(folder)
        except (PmgError, OSError, ValueError) as error:
            found.problems[number] = " ".join(str(error).split())
    for number, (folder, records) in found.records.items():
        if number not in found.rows and not runs[number].problem and folder not in taken:
            found.rows[number] = selection_rows(records)  # generated, and judged by none of these runs
    return found


def read_curves(run: RunFolder) -> pd.DataFrame | None:
    """Metrics by step; where training was resumed from a checkpoint, the later version counts."""
    for part in run.whole:
        versions = sorted(part.folder.glob("csv/version_*/metrics.csv"), key=natural_key)
        frames = [pd.read_csv(path) for path in versions if path.stat().st_size]
        if part.command in TRAINERS and frames:
            joined = frames[0]
            for later in frames[1:]:
                joined = pd.concat([joined[joined["step"] < later["step"].min()], later], ignore_index=True)
            return joined
    return None


def selection_rows(records: Sequence[Record]) -> pd.DataFrame:
    """Rows of images that no judge has seen: the scores that selected them."""
    return pd.DataFrame(
        {
            "example": record.example, "user": record.user, "kind": "", "method": record.method,
            "control": record.control, "seed": record.seed, "selection_preference": record.chosen.preference,
            "selection_accuracy": record.chosen.accuracy, "selection_z": record.chosen.z,
        }
        for record in records
    )  # fmt: skip


def _rows_file(run: RunFolder) -> Path | None:
    """Where the run's rows lie, or should lie; none for a command that judges nothing."""
    judges = [part for part in run.whole if part.command in JUDGES and not part.problem]
    files = [part.links.get("results_dir", part.folder) / "rows.parquet" for part in judges]
    return next((file for file in files if file.is_file()), files[0] if files else None)


def _read_rows(file: Path) -> pd.DataFrame:
    if not file.is_file():
        raise PmgError(f"{file} is missing; run the same command again")
    rows = pd.read_parquet(file)
    missing = [name for name in COLUMNS if name not in rows]
    if missing:
        raise PmgError(f"{file} lacks the columns {', '.join(missing)}")
    return rows


def _read_sets(file: Path) -> dict[str, dict[str, dict[str, float]]]:
    return json.loads(file.read_text()).get("sets", {}) if file.is_file() else {}


def _records_folder(run: RunFolder, runs: Sequence[RunFolder]) -> Path | None:
    """Where the images lie that the run made, or else judged, unless another of the runs made them."""
    own = next((part.folder for part in run.whole if (part.folder / RECORDS).is_file()), None)
    link = run.links.get("generate_run") if run.command == "evaluate" else None
    if own or link is None or any(part.folder == link for other in runs for part in other.whole):
        return own
    return link if (link / RECORDS).is_file() else None
