"""What all methods of the benchmark have in common, and the result file of each."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pmg.cache import Cache, atomic_write_text
from pmg.domain import PmgError

BENCHMARK, RESULTS, COSTS = "benchmark.json", "results", "costs.json"
RANKED_BY = "lpips_truth"
MEASURES = (RANKED_BY, "style_accuracy", "concept_accuracy", "finish_error")
LOWER_IS_BETTER = ("lpips_truth", "finish_error")
FIXED = (
    "data.", "metrics.", "generator.", "text_encoder.", "split", "split_sizes.test", "targets.test",
    "history_items.test", "sampling.steps", "mismatched",
)  # fmt: skip
"""Keys of a run's identity, and with a dot their beginnings, that have to be those of the benchmark."""
READ_THE_TRUTH = ("pmg.looks.style_tokens.TrueStyleTokens",)
"""Classes of sources that get a user's exact look: methods of theirs are upper bounds, without a rank."""
ARRAY = re.compile(r"\[[^\[\]{}]*\]")  # of numbers or words, in JSON
Kind = TypeVar("Kind", bound=BaseModel)


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def compute_digest(self) -> str:
        """Returns a digest of all values but ``digest``."""
        return Cache.key(stored=self.model_dump(mode="json", exclude={"digest"}))


class Benchmark(_Stored):
    """The definition of the benchmark: ``benchmark.json``."""

    version: int  # raised when anything else here changes
    # how users show their taste, see ``data.channel``; a method may leave out those that it can't read
    channels: tuple[str, ...]
    seeds: tuple[int, ...]  # of the noise and of trainings
    candidates: int  # most images that a method may choose among
    settings: Mapping[str, Any]  # values and digests of data, metrics and generator, by key of a run's identity
    groups: Mapping[str, str]  # the group of each test example, by its id

    def cells_of(self, channels: Collection[str]) -> list[str]:
        """Returns those of its channels with each seed, e.g. ``split/0``."""
        return [f"{channel}/{seed}" for channel in self.channels if channel in channels for seed in self.seeds]

    @property
    def judges(self) -> set[str]:
        """Digests of the models that judge, which neither a training nor a generation may read."""
        keys = [key for key in self.settings if ".judge." in key or ".perceptual." in key]
        return {self.settings[key] for key in keys if key.endswith(".content")}


class Costs(_Stored):
    """What each method takes, run alone with an empty cache on one thread: ``costs.json``."""

    channel: str  # of the users
    users: int
    machine: Mapping[str, Any]  # processor, cores and memory
    revision: str | None  # of the code
    # by name: ``read`` and ``draw``, seconds a user, and ``memory_mib``, the most of the run
    methods: Mapping[str, Mapping[str, float]]


class Result(_Stored):
    """The results of one method: a file of the folder ``results``."""

    benchmark: str  # digest of the definition
    version: int  # of the definition
    method: str  # its name
    settings: Mapping[str, Any]  # what decides its images, by key of a run's config
    # by channel and seed: for each of `MEASURES` one value an example, sorted by id
    cells: Mapping[str, Mapping[str, Sequence[float]]]
    trained: bool  # whether it reads a run of ``pmg-train``, or a file with what was computed elsewhere
    revision: str | None  # of the code
    machine: Mapping[str, Any]  # processor, cores and memory
    sources: Mapping[str, str]  # digests of the rows, records and results that the values were read from
    digest: str = ""  # of all other values

    def has(self, channel: str) -> bool:
        """Returns whether the method was run in a channel."""
        return any(cell.startswith(f"{channel}/") for cell in self.cells)

    def beside(self, before: Result) -> Result:
        """Returns the result, with its revision and machine, and cells of an earlier one that it lacks."""
        cells, sources = {**before.cells, **self.cells}, {**before.sources, **self.sources}
        joined = self.model_copy(update={"cells": cells, "sources": sources})
        return joined.model_copy(update={"digest": joined.compute_digest()})

    @property
    def bound(self) -> bool:
        """Whether it is an upper bound, see `READ_THE_TRUTH`."""
        return any(key.endswith("._target_") and value in READ_THE_TRUTH for key, value in self.settings.items())


def read_benchmark(folder: Path) -> Benchmark:
    """Returns the definition of the benchmark in a folder; PmgError if there is none, or it is damaged."""
    return _read(folder / BENCHMARK, Benchmark)


def read_costs(folder: Path) -> Costs | None:
    """Returns what methods take, measured apart; None if nothing was measured."""
    return _read(folder / COSTS, Costs) if (folder / COSTS).is_file() else None


def read_all(folder: Path, benchmark: Benchmark) -> dict[str, Result]:
    """Returns all results of a folder by method; PmgError if one is damaged, edited or of another definition."""
    found = {}
    for path in sorted((folder / RESULTS).glob("*.json")):
        result = _read(path, Result)
        if result.digest != result.compute_digest():
            raise PmgError(f"{path} was changed after it was written: add its run again")
        if result.benchmark != benchmark.compute_digest():
            raise PmgError(
                f"{path} is of version {result.version} of the benchmark, and {folder / BENCHMARK} defines another "
                f"(version {benchmark.version}): run the method again, and add the run"
            )
        found[result.method] = result
    return found


def write(path: Path, content: BaseModel) -> None:
    """Writes a definition or a result, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content.model_dump(mode="json"), indent=1)
    atomic_write_text(path, ARRAY.sub(lambda found: " ".join(found[0].split()), text) + "\n")  # an array a line


def _read(path: Path, kind: type[Kind]) -> Kind:
    try:
        return kind.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise PmgError(f"{path} is missing: name the folder of the benchmark, --folder experiments/field") from None
    except (OSError, ValueError, ValidationError) as error:
        raise PmgError(f"{path} can't be read: {' '.join(str(error).split())[:200]}") from None
