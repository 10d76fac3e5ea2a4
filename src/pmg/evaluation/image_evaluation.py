"""From generated images to one row of metrics an image; rows that were computed before are read from files."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from pmg.cache import Cache, atomic_write_bytes, hash_tensor
from pmg.domain import Example
from pmg.evaluation.metric_interface import ImageMetric, MetricInfo, References
from pmg.evaluation.references import ReferenceMethods, ReferenceReader, checked
from pmg.evaluation.set_comparison import MethodImages
from pmg.progress import track
from pmg.records.shards import WHOLE, Shard
from pmg.records.storage import Key, Record, as_line

log = logging.getLogger(__name__)
SELECTION_SCORES = (
    MetricInfo("selection_preference", "d_p", range=(-1.0, 1.0), aspect="preference", selects=True),
    MetricInfo("selection_accuracy", "d_t", range=(-1.0, 1.0), aspect="accuracy", selects=True),
    MetricInfo("selection_z", "z", selects=True),
)
CHUNK = 25  # examples whose references are in memory at once
JOINED = 100  # tables of chunks that become one


@dataclass(frozen=True)
class RowCache:
    """Stores tables by key, a checksummed file each, in a `folder` made when needed; computes damaged ones again."""

    folder: Path

    def fetch(self, key: str, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Returns the rows of `key`, computed and stored first where they are absent."""
        path = self.folder / f"{key}.parquet"
        try:
            return pq.read_table(path, page_checksum_verification=True).to_pandas()
        except FileNotFoundError:
            pass
        except (OSError, pa.ArrowException) as error:
            log.warning("%s is damaged (%s): judged again", path, type(error).__name__)
        rows = compute()
        atomic_write_bytes(path, rows.to_parquet(index=False, write_page_checksum=True))
        return rows

    def drop(self) -> None:
        """Removes the stored rows; they belong to one version of the code."""
        shutil.rmtree(self.folder, ignore_errors=True)


def selection_scores(record: Record) -> dict[str, float]:
    """Returns the scores of the chosen candidate by name; NaN for a preference score that the method has not."""
    chosen = record.chosen
    values = (float("nan") if chosen.preference is None else chosen.preference, chosen.accuracy, chosen.z)
    return {info.name: value for info, value in zip(SELECTION_SCORES, values, strict=True)}


@dataclass(frozen=True)
class ImageEvaluation:
    """Computes the metrics of generated images, and of the reference methods."""

    metrics: Sequence[ImageMetric]  # of single images
    reader: ReferenceReader  # of what the metrics compare with
    references: ReferenceMethods
    labels: Sequence[str] = ()  # names of the examples' labels that rows hold
    cache: RowCache | None = None  # rows that were computed before with the same models

    @torch.no_grad()
    def rows(
        self, examples: Sequence[Example], records: Mapping[Key, Record], images: Mapping[Key, Tensor],
        shard: Shard = WHOLE,
    ) -> pd.DataFrame:  # fmt: skip
        """Returns one row an image and one for each reference method, and its ``chunk``, see `in_order`.

        Images are `(3, H, W)` in [-1, 1] by `Record.key`; only those of the shard's examples are judged. PmgError if a
        metric compares with what an example does not have.
        """
        keys: dict[str, list[Key]] = {example.id: [] for example in examples}
        for key in records:
            if key.example in keys:
                keys[key.example].append(key)
        parts = []
        for start in track(shard.select(range(0, len(examples), CHUNK)), "Evaluating"):
            chunk = examples[start : start + CHUNK]
            by_example = {example.id: [records[key] for key in keys[example.id]] for example in chunk}
            parts.append(self._fetch(chunk, by_example, images).assign(chunk=start))
            if len(parts) == JOINED:  # a table takes some ten kilobytes of its own
                parts = [pd.concat(parts, ignore_index=True)]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def method_images(self, images: Mapping[Key, Tensor]) -> dict[str, MethodImages]:
        """Returns what reads each method's images made with the users' own preferences, and each reference method's.

        Images are `(3, H, W)` in [-1, 1] by `Record.key`, of one seed.
        """

        def read(some: Sequence[Example], method: str) -> Tensor:
            """Returns a method's images of some examples, `(N, 3, H, W)`."""
            return torch.stack([images[Key(example.id, method, "own", seed)] for example in some])

        seed, methods = next(iter(images)).seed, dict.fromkeys(key.method for key in images)
        return {method: partial(read, method=method) for method in methods} | self.references.images_by_method

    def _fetch(
        self, examples: Sequence[Example], by_example: Mapping[str, list[Record]], images: Mapping[Key, Tensor]
    ) -> pd.DataFrame:
        if self.cache is None:
            return self._evaluate(examples, by_example, images)
        records = [record for example in examples for record in by_example[example.id]]
        read = {record.key: images[record.key] for record in records}  # once, from their files
        key = Cache.key(records=list(map(as_line, records)), pixels=list(map(hash_tensor, read.values())))
        return self.cache.fetch(key, lambda: self._evaluate(examples, by_example, read))

    def _evaluate(
        self, examples: Sequence[Example], by_example: Mapping[str, list[Record]], images: Mapping[Key, Tensor]
    ) -> pd.DataFrame:
        references = self.reader.read(examples, by_example)
        seed = by_example[examples[0].id][0].seed
        frames = []
        for method, control in sorted({(r.method, r.control) for e in examples for r in by_example[e.id]}):
            drawn = ([r for r in by_example[e.id] if (r.method, r.control) == (method, control)] for e in examples)
            chosen = [records[0] for records in drawn]
            stacked = torch.stack([images[record.key] for record in chosen])
            made = {"method": method, "control": control}
            facts = [{**made, "seed": record.seed, **selection_scores(record)} for record in chosen]
            frames.append(self._measure(stacked, references, facts))
        for name, read in self.references.images_by_method.items():
            facts = [{"method": name, "control": "own", "seed": seed}] * len(examples)
            frames.append(self._measure(read(examples), references, facts))
        return pd.concat(frames, ignore_index=True)

    def _measure(self, images: Tensor, references: References, facts: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        """Returns one method's rows: who it is for, which labels they have, how it was made, and its metrics."""
        who = [
            {"example": e.id, "user": e.user, **{name: e.labels[name] for name in self.labels}}
            for e in references.examples
        ]
        there = images.isfinite().all((1, 2, 3))  # a method may have no image of some users
        blank = checked("images", torch.where(there[:, None, None, None], images, 0.0))
        columns = pd.DataFrame(compute(self.metrics, blank, references), index=range(len(images)))
        columns.loc[~there.numpy()] = float("nan")
        return pd.concat([pd.DataFrame(who), pd.DataFrame(facts), columns], axis=1)


def compute(metrics: Sequence[ImageMetric], images: Tensor, references: References) -> dict[str, list[float]]:
    """Returns the values of all outputs by name, in the order of the metrics, for images `(B, 3, H, W)` in [-1, 1].

    ValueError if a metric computes other outputs than it declares, or not one value an image.
    """
    values: dict[str, list[float]] = {}
    for metric in metrics:
        found = metric(images, references)
        names = [info.name for info in metric.outputs]
        shapes = {name: tuple(column.shape) for name, column in found.items()}
        if shapes != dict.fromkeys(names, (len(images),)):
            raise ValueError(f"{type(metric).__name__} declares {names} for {len(images)} images, and gave {shapes}")
        values |= {name: found[name].tolist() for name in names}
    return values


def in_order(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Returns the rows of all shards in the order of a single process."""
    rows = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return rows.sort_values("chunk", kind="stable", ignore_index=True).drop(columns="chunk")
