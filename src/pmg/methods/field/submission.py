"""The check of a submission: runs of ``pmg-study experiment=field``, and what the result of a method is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pmg.configuration.instantiate import nearest
from pmg.domain import PmgError
from pmg.evaluation.results import read_results, read_rows
from pmg.generation.records import Record, read_images, read_records
from pmg.methods.field.benchmark import FIXED, MEASURES, Benchmark, Result
from pmg.runs.content import check_made
from pmg.runs.run_folder import read_json

IMAGES_AT_ONCE = 256
CHANNEL = "data.channel"


@dataclass(frozen=True)
class Study:
    """One finished run of ``pmg-study``: one channel and seed of the benchmark.

    Attributes:
        folder: of the run.
        identity: of its generation and evaluation together.
        rows: one a method, example and control.
        records: of its images.
        costs: seconds by phase of the generation, and its peak memory.
        digests: of what was read, by name.
        facts: revision and machine.
    """

    folder: Path
    identity: Mapping[str, Any]
    rows: pd.DataFrame
    records: Sequence[Record]
    costs: Mapping[str, float]
    digests: Mapping[str, str]
    facts: Mapping[str, Any]

    @property
    def cell(self) -> str:
        """Channel and seed, e.g. ``split/0``."""
        return f"{self.identity.get(CHANNEL, 'pictures')}/{self.identity['seed']}"


def find_studies(paths: Sequence[Path]) -> list[Study]:
    """Returns the finished studies in and below folders; PmgError if there is none, or one is damaged or edited."""
    folders = [
        path.parent for base in paths for path in sorted(base.rglob("results.json")) if path.parent.name != "results"
    ]
    if not folders:
        raise PmgError(f"{', '.join(map(str, paths))}: no finished run there; run pmg-study experiment=field")
    return [read_study(folder) for folder in folders]


def read_study(folder: Path) -> Study:
    """Reads a study and checks that each of its files is what the run made, else raises PmgError."""
    whole, generated, judged = (read_json(folder / part / "metrics.json") for part in ("", "generate", "evaluate"))
    for name, part in {"": whole, "generate": generated, "evaluate": judged}.items():
        if part.get("status") != "completed":
            raise PmgError(f"{folder / name} is not the folder of a finished run: give its command again")
    results = read_results(folder / "results.json")
    digests = {
        "results": check_made(folder / "evaluate", judged, "../results.json"),
        "rows": results["rows"],
        "records": check_made(folder / "generate", generated, "records.jsonl"),
    }
    if results.get("records") != digests["records"]:
        raise PmgError(
            f"{folder / 'results.json'} is of other images than those of {folder / 'generate'}: evaluate again"
        )
    rows = read_rows(folder, results["rows"])
    seconds = {f"phase {name}": value for name, value in generated["ledger"]["seconds"].items()}
    memory = generated["ledger"].get("peak_memory", {}).get("ram_mib", 0.0)
    return Study(
        folder,
        {**whole["identity"], **generated["identity"]},
        rows,
        read_records(folder / "generate"),
        {**seconds, "memory_mib": memory},
        digests,
        {"revision": generated["git"].get("revision"), "machine": generated["hardware"]},
    )


def check_study(study: Study, benchmark: Benchmark) -> None:
    """Checks that a study is of the benchmark's world, judges and generator, else raises PmgError."""
    where = study.folder
    found = fixed_settings(study.identity)
    more = {key for key in found if not key.startswith("metrics.")}  # further metrics may be measured
    for key in sorted({*more, *benchmark.settings}):
        if found.get(key) != benchmark.settings.get(key):
            raise PmgError(
                f"{where}: {key} is {found.get(key)!r}, and version {benchmark.version} of the benchmark has "
                f"{benchmark.settings.get(key)!r}"
            )
    channel, _, seed = study.cell.partition("/")
    if channel not in benchmark.channels or int(seed) not in benchmark.seeds:
        raise PmgError(f"{where}: no channel and seed of the benchmark: {study.cell}")
    judged = [
        key
        for key, value in study.identity.items()
        if not key.startswith("metrics.") and (value in benchmark.judges if isinstance(value, str) else False)
    ]
    if judged:
        raise PmgError(f"{where}: {judged[0]} is a model that judges; no training or selection may use one")


def check_method(study: Study, method: str, benchmark: Benchmark) -> pd.DataFrame:
    """Returns the rows of one method, one an example in sorted order.

    PmgError if they aren't those of the benchmark's users, their images aren't what was made, or there were too many
    candidates.
    """
    where = f"{study.folder}, method {method}"
    own = study.rows[(study.rows["method"] == method) & (study.rows["control"] == "own")].sort_values("example")
    records = {one.example: one for one in study.records if one.method == method and one.control == "own"}
    for name, examples in {"rows": list(own["example"]), "records": sorted(records)}.items():
        if examples != sorted(benchmark.groups):
            odd = sorted(set(examples) ^ set(benchmark.groups))
            raise PmgError(
                f"{where}: its {name} are not of the benchmark's users, e.g. {odd[0] if odd else 'one twice'}"
            )
    groups = dict(zip(own["example"], own["group"], strict=True))
    for example, group in groups.items():
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
    """Returns the result of a method, checked; PmgError, too, if a channel or seed is missing or there twice."""
    with_method = [study for study in studies if method in set(study.rows["method"])]
    cells = [study.cell for study in with_method]
    wanted = [f"{channel}/{seed}" for channel in benchmark.channels for seed in benchmark.seeds]
    if sorted(cells) != sorted(wanted):
        odd = next((cell for cell in wanted if cell not in cells), None)
        what = f"no run of {odd}" if odd else f"two runs of {max(cells, key=cells.count)}"
        raise PmgError(f"method {method}: {what}; a submission has one of each: {', '.join(wanted)}")
    rows = {study.cell: check_method(study, method, benchmark) for study in with_method}
    values = {
        cell: {name: [round(float(value), 4) for value in own[name]] for name in MEASURES}
        for cell, own in rows.items()
    }
    first = with_method[0]
    result = Result(
        version=benchmark.version,
        method=method,
        about=about(first, method),
        cells=values,
        trained=any(
            key.startswith(f"preference.{one}.run") for one in _sources(first, method) for key in first.identity
        ),
        cost={study.cell: cost_of(study, method) for study in with_method},
        revision=first.facts["revision"],
        machine=first.facts["machine"],
        sources={f"{study.cell} {name}": digest for study in with_method for name, digest in study.digests.items()},
    )
    return result.model_copy(update={"digest": result.seal()})


def fixed_settings(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of an identity that have to be those of the benchmark."""
    groups = tuple(name for name in FIXED if name.endswith("."))
    fixed = {key: value for key, value in identity.items() if key in FIXED or key.startswith(groups)}
    return {key: value for key, value in fixed.items() if key != CHANNEL}


def methods_of(studies: Sequence[Study]) -> list[str]:
    """Returns the names of the methods that studies generated images of, sorted."""
    return sorted({record.method for study in studies for record in study.records})


def choose(names: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """Returns the methods to add, all without `names`; PmgError if one of them is not `known`."""
    for name in names or ():
        if name not in known:
            raise PmgError(f"--method {name}: no such method in these runs{nearest(name, known)}")
    return list(names or known)


def _sources(study: Study, method: str) -> Iterator[str]:
    """Yields the names of the preference sources of a method."""
    for argument in ("keywords", "soft_tokens", "negative", "references", "taste", "image"):
        if source := study.identity.get(f"method.{method}.{argument}"):
            yield source


def about(study: Study, method: str) -> str:
    """Returns which classes a method's sources are, e.g. ``pmg.methods.after_drc.StyleAndSemantics``."""
    shown = {study.identity.get(f"preference.{source}._target_", source) for source in _sources(study, method)}
    return ", ".join(sorted(shown))


def cost_of(study: Study, method: str) -> dict[str, float]:
    """Returns the seconds that a method's preferences took for all users, and the memory of its run."""
    used = set(_sources(study, method))
    seconds = sum(study.costs.get(f"phase preference {source}", 0.0) for source in used)
    return {"seconds": round(seconds, 3), "memory_mib": study.costs["memory_mib"]}
