"""Files of runs that a report reads: evaluated rows, learning curves, and records with their images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from pmg.domain import PmgError
from pmg.evaluation.comparison import Comparison
from pmg.evaluation.image_evaluation import SELECTION_SCORES, selection_scores
from pmg.evaluation.metric_interface import MetricInfo, read_infos
from pmg.evaluation.results import COLUMNS, read_results, read_rows
from pmg.paths import natural_key
from pmg.records.storage import RECORDS, Record, read_records
from pmg.reporting.runs import RunFolder, progress

JUDGES = ("evaluate", "study", "keywords")
TRAINERS = ("train", "pretrain")


@dataclass
class Artifacts:
    """The results of a set of runs, by the number of the run.

    `rows` has an image a row, as `ResultBuilder` takes them, of completed runs alone; `sets` has metrics of whole sets
    by name and method, see `compare_sets`, and `records` those of images with their folder.
    """

    rows: dict[int, pd.DataFrame] = field(default_factory=dict)
    sets: dict[int, Mapping[str, Mapping[str, Mapping[str, float]]]] = field(default_factory=dict)
    curves: dict[int, pd.DataFrame] = field(default_factory=dict)  # metrics by "step", resumed versions joined
    records: dict[int, tuple[Path, list[Record]]] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)  # what could not be read
    infos: dict[str, MetricInfo] = field(default_factory=dict)  # of the metrics of all runs, as the runs recorded them
    comparison: Comparison = field(default_factory=Comparison)  # that of the first run that was evaluated

    @property
    def metrics(self) -> list[MetricInfo]:
        """Descriptions of all columns: those that the runs recorded, then the scores that select."""
        selecting = {info.name: info for info in SELECTION_SCORES}
        evaluated = [info for name, info in self.infos.items() if name not in selecting]
        images, sets = ([info for info in evaluated if info.per_set is whole] for whole in (False, True))
        return [*images, *selecting.values(), *sets]

    def add_results(self, number: int, file: Path) -> None:
        """Adds a run's rows and ``results.json``; PmgError if one is missing, or was written by another version."""
        results = read_results(file.parent / "results.json")
        rows = read_rows(file.parent, results.get("rows"))
        if missing := [name for name in COLUMNS if name not in rows]:
            raise PmgError(f"{file} lacks the columns {', '.join(missing)}")
        if not self.rows:
            self.comparison = Comparison.from_dict(results["comparison"])
        self.infos = {info.name: info for info in read_infos(results["metrics"])} | self.infos
        self.rows[number], self.sets[number] = rows, results.get("sets", {})


def gather(runs: Sequence[RunFolder]) -> Artifacts:
    """Reads everything; what is damaged is named in `problems`, and the rest is used all the same."""
    found = Artifacts()
    taken: set[Path] = set()
    for number, run in enumerate(progress(runs, "Reading results")):
        try:
            found.curves.update({number: curve} if (curve := read_curves(run)) is not None else {})
            if not run.problem and (file := _rows_file(run)):
                found.add_results(number, file)
                taken |= {part.links["generate_run"] for part in run.whole if "generate_run" in part.links}
            if folder := _records_folder(run, runs):
                found.records[number] = folder, read_records(folder)
        except (PmgError, OSError, ValueError) as error:
            found.problems[number] = " ".join(str(error).split())
    for number, (folder, records) in found.records.items():
        if number not in found.rows and not runs[number].problem and folder not in taken:
            # generated, and evaluated by none of these runs: the scores that selected them
            scores = ({"user": one.user, **one.key._asdict(), **selection_scores(one)} for one in records)
            found.rows[number] = pd.DataFrame(scores)
    return found


def read_curves(run: RunFolder) -> pd.DataFrame | None:
    """Returns metrics by step; where training was resumed from a checkpoint, the later version counts."""
    for part in run.whole:
        versions = sorted(part.folder.glob("csv/version_*/metrics.csv"), key=natural_key)
        frames = [pd.read_csv(path) for path in versions if path.stat().st_size]
        if part.command in TRAINERS and frames:
            joined = frames[0]
            for later in frames[1:]:
                joined = pd.concat([joined[joined["step"] < later["step"].min()], later], ignore_index=True)
            return joined
    return None


def _rows_file(run: RunFolder) -> Path | None:
    """Returns the file of the run's rows, also where it is missing; None for a command that evaluates nothing."""
    judges = [part for part in run.whole if part.command in JUDGES and not part.problem]
    files = [part.links.get("results_dir", part.folder) / "rows.parquet" for part in judges]
    return next((file for file in files if file.is_file()), files[0] if files else None)


def _records_folder(run: RunFolder, runs: Sequence[RunFolder]) -> Path | None:
    """Returns the folder of the images that the run made, or else evaluated, unless another of the runs made them."""
    own = next((part.folder for part in run.whole if (part.folder / RECORDS).is_file()), None)
    link = run.links.get("generate_run") if run.command == "evaluate" else None
    if own or link is None or any(part.folder == link for other in runs for part in other.whole):
        return own
    return link if (link / RECORDS).is_file() else None
