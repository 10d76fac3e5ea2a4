"""Generates a study's images: every method for every example, with its mismatched-user control."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace

import torch

from pmg.cache import Cache
from pmg.domain import Example
from pmg.generation.pipeline import Pipeline
from pmg.generation.requests import Method, Preference, RequestBuilder, record_image
from pmg.generation.selection import pareto_front
from pmg.progress import track
from pmg.records.shards import WHOLE, Shard
from pmg.records.storage import Control, Key, Record, RecordWriter

log = logging.getLogger(__name__)


def mismatch(users: Mapping[str, str], seed: int) -> dict[str, str]:
    """Returns for each profile the next one of another user on a random cycle; a single user gets their own."""
    names = list(users)
    shuffled = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))
    order = [names[place] for place in shuffled.tolist()]
    twice = order * 2
    return {
        one: next((other for other in twice[place + 1 : place + len(order)] if users[other] != users[one]), one)
        for place, one in enumerate(order)
    }


def leave_out_control(methods: Mapping[str, Method], examples: Sequence[Example]) -> dict[str, Method]:
    """Returns methods, for examples of a single user without the mismatched control: nobody else is there."""
    if len({example.user for example in examples}) > 1 or not any(method.mismatch for method in methods.values()):
        return dict(methods)
    log.warning("all examples are of one user: there is nobody else whose preference could be the mismatched control")
    return {name: replace(method, mismatch=False) for name, method in methods.items()}


def list_controlled(methods: Mapping[str, Method]) -> Iterator[tuple[str, Method, Control]]:
    """Yields every method with its controls; a method without preference has no mismatched control."""
    for name, method in methods.items():
        yield name, method, "own"
        if method.personal and method.mismatch:
            yield name, method, "mismatched"


def list_keys(examples: Sequence[Example], methods: Mapping[str, Method], seed: int) -> list[Key]:
    """Returns the keys of the records of a study, in the order in which one process writes them."""
    return [Key(e.id, name, control, seed) for name, _, control in list_controlled(methods) for e in examples]


@dataclass
class DatasetGenerator:
    """Generates the images of methods for examples and writes them; a second call generates only missing ones."""

    pipeline: Pipeline
    builder: RequestBuilder
    preferences: Mapping[str, Preference]  # of each user, by profile
    writer: RecordWriter
    _: KW_ONLY
    batch_size: int  # images at once
    hashes: Mapping[str, str]  # of what decides the images, for the records; each method's own is added
    sources: Mapping[str, str]  # hashes of the preference sources by name, for the records of methods that use them
    shard: Shard = WHOLE  # the part of the batches that is made
    made: int = field(default=0, init=False)  # images so far

    def __post_init__(self) -> None:
        self.other = mismatch({name: known.user for name, known in self.preferences.items()}, self.builder.seed)

    def run(self, examples: Sequence[Example], methods: Mapping[str, Method]) -> None:
        """Generates every method's images, own preference first, then the mismatched user's."""
        drawn = list(list_controlled(methods))
        starts, size = range(0, len(examples), self.batch_size), self.batch_size
        for name, method, _ in drawn:
            self.pipeline.check(name, method)
            self.writer.check(name, self._hashes(method))
        for name, method, control in drawn:
            title = f"{name} ({control})"
            for start in track(self.shard.select(starts), title, size=lambda start: min(size, len(examples) - start)):
                self._make(examples[start : start + size], name, method, control)

    def _hashes(self, method: Method) -> dict[str, str]:
        used = {name: self.sources[name] for name in method.sources}
        return {**self.hashes, "preference": Cache.key(**used), "method": method.key}

    def _make(self, examples: Sequence[Example], name: str, method: Method, control: Control) -> None:
        if not (missing := [e for e in examples if (e.id, name, control, self.builder.seed) not in self.writer.done]):
            return
        # the whole batch, although some of it may be there: sums of another batch size differ in their last digits
        sources = [e.profile if control == "own" else self.other[e.profile] for e in examples]
        requests = [
            self.builder(e, method, self.preferences[source]) for e, source in zip(examples, sources, strict=True)
        ]
        generated = self.pipeline(requests)
        hashes = self._hashes(method)
        records = [
            Record(
                example=example.id, user=example.user, method=name, control=control, preference_from=source,
                seed=self.builder.seed, hashes=hashes,
                front=pareto_front([(c.preference, c.accuracy) for c in candidates if c.preference is not None]),
                **record_image(request, picked, candidates, self.pipeline.scales),
            )
            for example, source, request, picked, candidates in zip(
                examples, sources, requests, generated.picked, generated.candidates, strict=True
            )
        ]  # fmt: skip
        self.writer.add(generated.images, records)
        self.made += len(missing)
