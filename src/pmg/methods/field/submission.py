"""The check of a submission: runs of ``pmg-study experiment=field``, and what the result of a method is made of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pmg.configuration.identity import hash_images
from pmg.configuration.instantiate import nearest
from pmg.domain import PmgError
from pmg.evaluation.results import read_results, read_rows
from pmg.generation.requests import Method
from pmg.methods.field.benchmark import FIXED, MEASURES, RESULTS, Benchmark, Result
from pmg.records.storage import Record, read_images, read_records
from pmg.runs.content import check_made
from pmg.runs.run_folder import read_json

IMAGES_AT_ONCE = 256
CHANNEL, JUDGED = "data.channel", "generate_run."
# settings that a method may choose
OWN_SETTINGS = ("sampling.", "scenario.", "captioner.", "language_model.", "decoding.", "dtype")
# the training that a source reads, or the file with what was computed elsewhere
TRAINED = re.compile(r"preference\.[^.]+\.(run\..+|file(\.content)?)")


@dataclass(frozen=True)
class Study:
    """One finished run of ``pmg-study``: one channel and seed of the benchmark."""

    folder: Path  # of the run
    identity: Mapping[str, Any]  # of its generation, with the evaluation's metrics
    rows: pd.DataFrame  # one a method, example and control
    records: Sequence[Record]  # of its images
    digests: Mapping[str, str]  # of what was read, by name
    facts: Mapping[str, Any]  # revision and machine

    @property
    def cell(self) -> str:
        """Channel and seed, e.g. ``split/0``."""
        return f"{self.identity.get(CHANNEL)}/{self.identity.get('seed')}"

    def sources(self, method: str) -> tuple[str, ...]:
        """Returns the names of the preference sources of a method."""
        beginning = f"method.{method}."
        given = {key.removeprefix(beginning): self.identity[key] for key in self.identity if key.startswith(beginning)}
        return Method(**{name: value for name, value in given.items() if name in Method.__dataclass_fields__}).sources

    def settings(self, method: str) -> dict[str, Any]:
        """Returns what decides a method's images beside seed, channel and what it has of trainings, by key."""
        own = (f"method.{method}.", *(f"preference.{source}." for source in self.sources(method)), *OWN_SETTINGS)
        return {
            key: value for key, value in self.identity.items() if key.startswith(own) and not TRAINED.fullmatch(key)
        }


def find_studies(paths: Sequence[Path]) -> list[Study]:
    """Returns the finished studies in and below folders; PmgError if there is none, or one is damaged or edited."""
    found = [path.parent for base in paths for path in sorted(base.rglob("results.json"))]
    if not (folders := [folder for folder in found if folder.name != RESULTS]):
        raise PmgError(f"{', '.join(map(str, paths))}: no finished run there; run pmg-study experiment=field")
    return [read_study(folder) for folder in folders]


def read_study(folder: Path) -> Study:
    """Reads a study and checks that each of its files is what the run made, else raises PmgError."""
    generated, judged = (read_json(folder / part / "metrics.json") for part in ("generate", "evaluate"))
    for name, part in {"generate": generated, "evaluate": judged}.items():
        if part.get("status") != "completed":
            raise PmgError(f"{folder / name} is not the folder of a finished run: give its command again")
    results = read_results(folder / "results.json")
    digests = {
        "results": check_made(folder / "evaluate", judged, "../results.json"),
        "rows": results["rows"],
        "records": check_made(folder / "generate", generated, "records.jsonl"),
    }
    identity, records = generated["identity"], read_records(folder / "generate")
    decided = judged["identity"].items()
    evaluated = {key.removeprefix(JUDGED): value for key, value in decided if key.startswith(JUDGED)}
    if results.get("records") != digests["records"] or evaluated != identity:
        raise PmgError(f"{folder / 'results.json'} is of other images than {folder / 'generate'} has: evaluate again")
    config = hash_images(identity)
    if odd := [one for one in records if one.hashes.get("config") != config or one.seed != identity.get("seed")]:
        raise PmgError(f"{folder / 'generate'}: {odd[0].image} was made by another config than the run's")
    metrics = {key: value for key, value in decided if key.startswith("metrics.")}
    facts = {"revision": (generated["git"] or {}).get("revision"), "machine": generated["hardware"]}
    return Study(folder, identity | metrics, read_rows(folder, results["rows"]), records, digests, facts)


def check_study(study: Study, benchmark: Benchmark) -> None:
    """Checks that a study is of the benchmark's world, judges and generator, else raises PmgError."""
    found = fixed_settings(study.identity)
    more = {key for key in found if not key.startswith("metrics.")}  # further metrics may be measured
    for key in sorted({*more, *benchmark.settings}):
        if found.get(key) != benchmark.settings.get(key):
            raise PmgError(
                f"{study.folder}: {key} is {found.get(key)!r}, and version {benchmark.version} of the benchmark has "
                f"{benchmark.settings.get(key)!r}"
            )
    if study.cell not in benchmark.cells_of(benchmark.channels):
        raise PmgError(f"{study.folder}: no channel and seed of the benchmark: {study.cell}")
    others = {key: value for key, value in study.identity.items() if not key.startswith("metrics.")}
    if judged := [key for key, value in others.items() if isinstance(value, str) and value in benchmark.judges]:
        raise PmgError(f"{study.folder}: {judged[0]} is a model that judges; no training or selection may use one")


def check_method(study: Study, method: str, benchmark: Benchmark) -> pd.DataFrame:
    """Returns the rows of one method, one an example in sorted order.

    PmgError if they aren't of the benchmark's users, an image isn't what was made, or there were too many candidates.
    """
    where = f"{study.folder}, method {method}"
    own = study.rows[(study.rows["method"] == method) & (study.rows["control"] == "own")].sort_values("example")
    records = {one.example: one for one in study.records if one.method == method and one.control == "own"}
    for name, examples in {"rows": list(own["example"]), "records": sorted(records)}.items():
        if examples != sorted(benchmark.groups):
            odd = [*sorted(set(examples) ^ set(benchmark.groups)), "one that is there twice"][0]
            raise PmgError(f"{where}: its {name} are not of the benchmark's users, e.g. {odd}")
    for example, group in zip(own["example"], own["group"], strict=True):
        if benchmark.groups[example] != group:
            raise PmgError(f"{where}: {example} is of group {group}, in the benchmark of {benchmark.groups[example]}")
    most = max(records.values(), key=lambda record: len(record.candidates))
    if len(most.candidates) > benchmark.candidates:
        raise PmgError(f"{where}: {len(most.candidates)} candidates of {most.example}; at most {benchmark.candidates}")
    if missing := [name for name in MEASURES if name not in own or own[name].isna().any()]:
        raise PmgError(f"{where}: no {missing[0]} of some example; evaluate with metrics=looks")
    ordered = list(records.values())
    for start in range(0, len(ordered), IMAGES_AT_ONCE):
        read_images(study.folder / "generate", ordered[start : start + IMAGES_AT_ONCE])
    return own


def gather(studies: Sequence[Study], method: str, benchmark: Benchmark) -> Result:
    """Returns the result of a method, checked.

    PmgError, too, if a seed of a channel is missing or there twice, or the method's settings differ between them.
    """
    having = [study for study in studies if method in set(study.rows["method"])]
    cells = [study.cell for study in having]
    channels = [str(study.identity.get(CHANNEL)) for study in having] or benchmark.channels
    wanted = benchmark.cells_of(channels)
    if sorted(cells) != sorted(wanted):
        odd = next((cell for cell in wanted if cell not in cells), None)
        what = f"no run of {odd}" if odd else f"two runs of {max(cells, key=cells.count)}"
        raise PmgError(f"method {method}: {what}; of its channels a submission has one of each: {', '.join(wanted)}")
    first, settings = having[0], having[0].settings(method)
    for study in having:
        own = study.settings(method)
        if differ := sorted(key for key in {*own, *settings} if own.get(key) != settings.get(key)):
            raise PmgError(f"method {method}: {differ[0]} differs between {first.folder} and {study.folder}")
    rows = {study.cell: check_method(study, method, benchmark) for study in having}
    result = Result(
        benchmark=benchmark.compute_digest(),
        version=benchmark.version,
        method=method,
        settings=settings,
        cells={cell: {name: own[name].round(4).tolist() for name in MEASURES} for cell, own in rows.items()},
        trained=any(TRAINED.fullmatch(key) and key.split(".")[1] in first.sources(method) for key in first.identity),
        revision=first.facts["revision"],
        machine=first.facts["machine"],
        sources={f"{study.cell} {name}": digest for study in having for name, digest in study.digests.items()},
    )
    return result.model_copy(update={"digest": result.compute_digest()})


def fixed_settings(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of an identity that have to be those of the benchmark."""
    groups = tuple(name for name in FIXED if name.endswith("."))
    fixed = {key: value for key, value in identity.items() if key in FIXED or key.startswith(groups)}
    return {key: value for key, value in fixed.items() if key != CHANNEL}


def choose(names: Sequence[str] | None, studies: Sequence[Study]) -> list[str]:
    """Returns the methods to add, all of the studies without `names`; PmgError if they have none of such a name."""
    known = sorted({record.method for study in studies for record in study.records})
    for name in names or ():
        if name not in known:
            raise PmgError(f"--method {name}: no such method in these runs{nearest(name, known)}")
    return list(names or known)
