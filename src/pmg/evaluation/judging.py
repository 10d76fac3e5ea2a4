"""From generated images to per-example rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any

import pandas as pd
import torch
from rich.progress import track
from torch import Tensor
from torch.nn.functional import cosine_similarity

from pmg.cache import Cache
from pmg.data.dataset import ImageStore
from pmg.domain import Example, Item, PmgError
from pmg.evaluation.distribution_metrics import Gallery
from pmg.evaluation.metrics import References, classify, measure
from pmg.evaluation.row_cache import KeptRows
from pmg.evaluation.similarity import Compare, Measure, Scene
from pmg.evaluation.tables import GOAL, MAIN
from pmg.generation.record_shards import WHOLE, Shard
from pmg.generation.records import Record, as_line
from pmg.models.diffusion.interfaces import Generator
from pmg.models.vision.image_sizes import fit_size
from pmg.models.vision.judge import Judge
from pmg.models.vision.perceptual import PerceptualDistance

CHUNK = 25  # examples whose references are in memory at once


class Judging:
    """Measures images against truth and history.

    Args:
        catalogue: holds the true drawings.
        judge: classifies style and concept; None: data without known styles, which are not classified.
        perceptual: LPIPS.
        generator: its autoencoder gives the ceiling: the truth, restored.
        measures: further ones, each with its own columns.
        multiscale: whether MS-SSIM is measured.
        kept: rows that were made before by these very models, if any.
    """

    def __init__(
        self, catalogue: ImageStore, judge: Judge | None, perceptual: PerceptualDistance, generator: Generator,
        measures: Sequence[Measure] = (), multiscale: bool = False, kept: KeptRows | None = None,
    ) -> None:  # fmt: skip
        self.catalogue, self.judge, self.perceptual, self.generator = catalogue, judge, perceptual, generator
        self.measures, self.multiscale, self.kept = list(measures), multiscale, kept

    @torch.no_grad()
    def rows(
        self, examples: Sequence[Example], records: Sequence[Record], images: Mapping[Any, Tensor],
        shard: Shard = WHOLE,
    ) -> pd.DataFrame:  # fmt: skip
        """One row an image, and three that took none to make: nearest history item, truth, and truth restored.

        Args:
            examples: what was asked for.
            records: how each image was made.
            images: `(3, H, W)` in [-1, 1] by `Record.key`.
            shard: the part of the examples that is judged.

        Returns:
            The rows, each with the number of its ``chunk``, see `in_order`.
        """
        by_example: dict[str, list[Record]] = {example.id: [] for example in examples}
        for record in records:
            if record.example in by_example:
                by_example[record.example].append(record)
        chunks = [examples[start : start + CHUNK] for start in range(0, len(examples), CHUNK)]
        mine = shard.select(list(enumerate(chunks)))
        parts = [
            self._fetch(chunk, by_example, images).assign(chunk=number)
            for number, chunk in track(mine, description="Judging")
        ]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def _fetch(
        self, examples: Sequence[Example], by_example: Mapping[str, list[Record]], images: Mapping[Any, Tensor]
    ) -> pd.DataFrame:
        """A chunk's rows, judged now unless they are kept."""
        if self.kept is None:
            return self._chunk(examples, by_example, images)
        records = [record for example in examples for record in by_example[example.id]]
        pixels = sha256(b"".join(images[record.key].numpy().tobytes() for record in records))
        key = Cache.key(records=list(map(as_line, records)), pixels=pixels.hexdigest())
        return self.kept.fetch(key, lambda: self._chunk(examples, by_example, images))

    def _chunk(
        self,
        examples: Sequence[Example],
        by_example: Mapping[str, list[Record]],
        images: Mapping[Any, Tensor],
    ) -> pd.DataFrame:
        compare = self._against(examples, by_example)
        seed = by_example[examples[0].id][0].seed
        frames = []
        for arm in sorted({(r.method, r.control) for e in examples for r in by_example[e.id]}):
            chosen = [next(r for r in by_example[e.id] if (r.method, r.control) == arm) for e in examples]
            stacked = torch.stack([images[record.key] for record in chosen])
            frames.append(self._measure(examples, stacked, compare, [_facts(record) for record in chosen]))
        for name, gallery in self._pseudo_galleries().items():
            frames.append(self._measure(examples, gallery(examples), compare, self._pseudo(examples, name, seed)))
        return pd.concat(frames, ignore_index=True)

    def galleries(self, examples: Sequence[Example], own: Mapping[tuple[str, str], Tensor]) -> dict[str, Gallery]:
        """Sets to be compared: each method's images, and those that took none to make, the truth among them.

        Args:
            examples: what was asked for.
            own: images `(3, H, W)` in [-1, 1] by example and method, made with the users' own preferences.
        """

        def gallery(some: Sequence[Example], method: str) -> Tensor:
            return torch.stack([own[example.id, method] for example in some])

        asked = {example.id for example in examples}
        methods = dict.fromkeys(method for example, method in own if example in asked)
        return {method: partial(gallery, method=method) for method in methods} | self._pseudo_galleries()

    def _pseudo_galleries(self) -> dict[str, Gallery]:
        return {"nearest": self._nearest_images, "ceiling": self._restored_truths, "truth": self._first_truths}

    def _first_truths(self, examples: Sequence[Example]) -> Tensor:
        return self.catalogue.pixels(self.catalogue.rows([example.truth[0] for example in examples]))

    @torch.no_grad()
    def _restored_truths(self, examples: Sequence[Example]) -> Tensor:
        truths = self._first_truths(examples)
        return fit_size(self.generator.decode(self.generator.encode_images(truths)), truths.shape[-1])

    def _nearest_images(self, examples: Sequence[Example]) -> Tensor:
        return self.catalogue.pixels(self.catalogue.rows([self._nearest(example) for example in examples]))

    def _against(self, examples: Sequence[Example], by_example: Mapping[str, list[Record]]) -> Compare:
        """Looks at truths and histories once, for the images of every arm."""
        pixels = self.catalogue.pixels
        truths = [pixels(self.catalogue.rows(example.truth)) for example in examples]
        histories = [pixels(self.catalogue.rows(self._seen(example))) for example in examples]
        references = References(self.perceptual, truths), References(self.perceptual, histories)
        targets = [by_example[e.id][0].target_keywords or (e.target.title,) for e in examples]
        scene = Scene(truths, histories, targets, [own_words(by_example[example.id]) for example in examples])
        further = [each.against(scene) for each in self.measures]

        def compare(images: Tensor) -> dict[str, Tensor]:
            found = measure(images, *references, multiscale=self.multiscale)
            for one in further:
                found |= one(images)
            return found

        return compare

    def _measure(
        self, examples: Sequence[Example], images: Tensor, compare: Compare, facts: Sequence[Mapping[str, Any]]
    ) -> pd.DataFrame:
        values = compare(images)
        if self.judge is not None:
            style = self.catalogue.style
            fitting = [{style[item.id] for item in example.truth} for example in examples]
            values = classify(images, self.judge, fitting, [example.target.concept for example in examples]) | values
        frame = pd.DataFrame({name: column.tolist() for name, column in values.items()})
        labels = ("kind", "taste")
        who = pd.DataFrame(
            [{"example": e.id, "user": e.user, **{name: e.labels[name] for name in labels}} for e in examples]
        )
        return pd.concat([who, pd.DataFrame(facts), frame], axis=1)

    def _seen(self, example: Example) -> list[Item]:
        """What the history shows.

        Raises:
            PmgError: none of it has a picture.
        """
        seen = [behavior.item for behavior in example.history if self.catalogue.has(behavior.item)]
        if not seen:
            raise PmgError(f"example '{example.id}': no item of the history has a picture to compare with")
        return seen

    def _nearest(self, example: Example) -> Item:
        """The liked item whose title the text encoder finds nearest to the target's: sending an old one again."""
        liked = [item for item in example.liked if self.catalogue.has(item)] or self._seen(example)
        items = list({item.id: item for item in liked}.values())
        pooled = self.generator.text_encoder.encode([example.target.title, *(item.title for item in items)]).pooled
        return items[int(cosine_similarity(pooled[1:], pooled[:1]).argmax())]

    @staticmethod
    def _pseudo(examples: Sequence[Example], name: str, seed: int) -> list[dict[str, Any]]:
        return [{"method": name, "control": "own", "seed": seed} for _ in examples]


def in_order(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all shards as one process gives them."""
    rows = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return rows.sort_values("chunk", kind="stable", ignore_index=True).drop(columns="chunk")


def own_words(records: Sequence[Record]) -> tuple[str, ...]:
    """The user's own preference in words, as one example's records have it; empty where no method was given any.

    All arms are compared with the same words: those of `MAIN`, or else of the first method that was given some. The
    true taste (`GOAL`) is none of them, since only a simulation knows it.
    """
    told = [r for r in records if r.control == "own" and r.method != GOAL and r.preference_keywords]
    told.sort(key=lambda record: record.method != MAIN)
    return told[0].preference_keywords if told else ()


def _facts(record: Record) -> dict[str, Any]:
    chosen = record.chosen
    return {
        "method": record.method,
        "control": record.control,
        "seed": record.seed,
        "selection_preference": float("nan") if chosen.preference is None else chosen.preference,
        "selection_accuracy": chosen.accuracy,
        "selection_z": chosen.z,
    }


def judge_accuracy(judge: Judge, catalogue: ImageStore, held_out: Tensor) -> dict[str, float]:
    """The judge's own accuracy on held-out real drawings, rows `(N,)`: how far its words can be trusted."""
    with torch.no_grad():
        style, concept = judge(catalogue.pixels(held_out))
    items = [catalogue.items[row] for row in held_out.tolist()]
    styles = [judge.styles[place] == catalogue.style[i.id] for place, i in zip(style.argmax(1), items, strict=True)]
    concepts = [judge.concepts[place] == i.concept for place, i in zip(concept.argmax(1), items, strict=True)]
    return {"style_accuracy": sum(styles) / len(items), "concept_accuracy": sum(concepts) / len(items)}
