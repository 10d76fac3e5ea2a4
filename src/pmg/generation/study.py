"""Generates a study's images: every method for every example, with its mismatched-user control."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from rich.progress import Progress, TimeElapsedColumn
from torch import Tensor

from pmg.data.splits import stable_number
from pmg.domain import Example, Keywords
from pmg.generation.pipeline import Generated, Method, Pipeline, Request
from pmg.generation.records import Control, Record, RecordWriter


@dataclass(frozen=True)
class Preference:
    """What is known of one user.

    Attributes:
        user: the user's id.
        keywords: the language model's explicit keywords.
        soft: soft tokens `(n, D)`, or None where no encoder was trained.
        truth_in_words: the true taste; the `oracle` method alone may read it.
    """

    user: str
    keywords: Keywords
    soft: Tensor | None
    truth_in_words: str


def mismatch(users: Sequence[str], seed: int) -> dict[str, str]:
    """Another user for each user: everybody is somebody's other, nobody their own (a random cycle)."""
    order = torch.randperm(len(users), generator=torch.Generator().manual_seed(seed)).tolist()
    following = order[1:] + order[:1]
    return {users[one]: users[other] for one, other in zip(order, following, strict=True)}


def build_request(example: Example, target: Keywords, method: Method, preference: Preference, seed: int) -> Request:
    """One image to make: the example's target, in the way that `preference` and `method` ask for.

    Noise depends on the example and the seed alone, so that methods are compared from the same noise.
    """
    words = preference.truth_in_words if method.oracle else str(preference.keywords)
    return Request(
        target=target,
        words=words if method.personal else "",
        show_words=method.oracle or method.keywords,
        soft=preference.soft if method.soft else None,
        seed=stable_number("noise", seed, example.id) % 2**62,
    )


class StudyGenerator:
    """Runs methods over examples and writes what comes out; a second call makes only what is missing.

    Args:
        pipeline: makes images.
        targets: target keywords by concept.
        preferences: what is known of each user, by id.
        writer: takes images and records.
        batch_size: images at once.
        seed: of noise and mismatch.
        hashes: of what decides the images, for the records.
    """

    def __init__(
        self, pipeline: Pipeline, targets: Mapping[str, Keywords], preferences: Mapping[str, Preference],
        writer: RecordWriter, batch_size: int, seed: int, hashes: Mapping[str, str],
    ) -> None:  # fmt: skip
        self.pipeline, self.targets, self.preferences, self.writer = pipeline, targets, preferences, writer
        self.batch_size, self.seed, self.hashes = batch_size, seed, hashes
        self.other = mismatch(list(preferences), seed)
        self.made = 0

    def run(self, examples: Sequence[Example], methods: Mapping[str, Method]) -> None:
        """Makes every method's images, own preference first, then the mismatched user's."""
        arms = list(self.arms(methods))
        for name, _, _ in arms:
            self.writer.check(name, self.hashes)
        with Progress(*Progress.get_default_columns(), TimeElapsedColumn()) as progress:
            for name, method, control in arms:
                task = progress.add_task(f"{name} ({control})", total=len(examples))
                for start in range(0, len(examples), self.batch_size):
                    batch = examples[start : start + self.batch_size]
                    self._make(batch, name, method, control)
                    progress.advance(task, len(batch))

    def arms(self, methods: Mapping[str, Method]) -> Iterator[tuple[str, Method, Control]]:
        """Every method with its controls; where no user's preference is used there is nothing to mismatch."""
        for name, method in methods.items():
            yield name, method, "own"
            if method.keywords or method.soft:
                yield name, method, "mismatched"

    def _make(self, examples: Sequence[Example], name: str, method: Method, control: Control) -> None:
        missing = [e for e in examples if (e.id, name, control, self.seed) not in self.writer.done]
        if not missing:
            return
        sources = [e.user if control == "own" else self.other[e.user] for e in missing]
        requests = [
            build_request(e, self.targets[e.target.concept], method, self.preferences[source], self.seed)
            for e, source in zip(missing, sources, strict=True)
        ]
        generated = self.pipeline(requests)
        records = [
            self._record(example, name, control, source, request, generated, row)
            for row, (example, source, request) in enumerate(zip(missing, sources, requests, strict=True))
        ]
        self.writer.add(generated.images, records)
        self.made += len(missing)

    def _record(
        self, example: Example, name: str, control: Control, source: str, request: Request, generated: Generated,
        row: int,
    ) -> Record:  # fmt: skip
        return Record(
            example=example.id, user=example.user, method=name, control=control, preference_from=source,
            seed=self.seed, candidates=generated.candidates[row], picked=generated.picked[row],
            target_keywords=request.target.words,
            preference_keywords=tuple(request.words.split(", ")) if request.show_words else (),
            hashes=self.hashes,
        )  # fmt: skip
