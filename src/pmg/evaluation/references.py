"""Preparation of what metrics compare images with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from torch import Tensor

from pmg.data.dataset import ImageStore, require_truth
from pmg.domain import Example, Item
from pmg.evaluation.comparison import Comparison
from pmg.evaluation.metric_interface import Input, References
from pmg.evaluation.reference_arms import history_pixels
from pmg.generation.records import Record

Value = TypeVar("Value")


class ReferenceReader:
    """Reads what metrics compare images with, from the data set and from the records of a generation.

    Args:
        images: of all items.
        inputs: what the metrics declare; nothing else is read.
        comparison: the proposed method's keywords are the user's preference in words, the oracle's never.
    """

    def __init__(self, images: ImageStore, inputs: Collection[Input], comparison: Comparison) -> None:
        self.images, self.inputs, self.comparison = images, inputs, comparison

    def read(self, examples: Sequence[Example], records: Mapping[str, Sequence[Record]]) -> References:
        """Returns the references of examples; their records by the example's id.

        Raises:
            PmgError: an example has no truth, and a metric compares with it.
        """
        return References(
            examples,
            truths=self._read(Input.TRUTHS, examples, lambda e: self._pixels(require_truth(e))),
            histories=self._read(Input.HISTORIES, examples, lambda e: history_pixels(self.images, e)),
            target_words=self._read(
                Input.TARGET_WORDS, examples, lambda e: records[e.id][0].target_keywords or (e.target.title,)
            ),
            preference_words=self._read(
                Input.PREFERENCE_WORDS, examples, lambda e: preference_words(records[e.id], self.comparison)
            ),
        )

    def _read(self, wanted: Input, examples: Sequence[Example], read: Callable[[Example], Value]) -> list[Value]:
        """Returns an input of each example; nothing where no metric declares it."""
        return [read(example) for example in examples] if wanted in self.inputs else []

    def _pixels(self, items: Sequence[Item]) -> Tensor:
        return self.images.pixels(self.images.rows(items))


def preference_words(records: Sequence[Record], comparison: Comparison) -> tuple[str, ...]:
    """Returns the keywords of one example's own user; empty where no method was given any.

    All arms are compared with the same words: those of the proposed method, or else of the first method that was
    given some. Those of the oracle are left out, since its images are generated from the true taste.
    """
    with_words = [r for r in records if r.control == "own" and r.method != comparison.oracle and r.preference_keywords]
    with_words.sort(key=lambda record: record.method != comparison.proposed)
    return with_words[0].preference_keywords if with_words else ()
