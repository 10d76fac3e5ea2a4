"""What metrics compare images with, and the reference methods: images that no model personalises."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from pmg.data.dataset import ImageStore, liked_with_image, require_truth
from pmg.domain import Example, Item, PmgError
from pmg.evaluation.comparison import RECONSTRUCTION, TRUTH, Comparison
from pmg.evaluation.metric_interface import Input, References
from pmg.evaluation.set_comparison import MethodImages
from pmg.models.diffusion.interfaces import Generator
from pmg.models.image_passes import fit_size
from pmg.preferences.keywords import Budget
from pmg.records.storage import Record

NEAREST = "nearest"
TOLERANCE = 1e-3  # that rounding may add to a range


def history_pixels(images: ImageStore, example: Example) -> Tensor:
    """Returns the images of `liked_with_image`, `(N, 3, H, W)`."""
    liked = liked_with_image(images, example)
    return images.pixels(images.rows(liked)) if liked else torch.zeros(0, 3, images.size, images.size)


def checked(name: str, images: Tensor) -> Tensor:
    """Returns images if they are float `(B, 3, H, W)` in [-1, 1], else raises ValueError with what was found."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(f"{name} must be float (B, 3, H, W), got {images.dtype} {tuple(images.shape)}")
    if not (images.abs() <= 1 + TOLERANCE).all():  # written so that NaN fails, too
        least, most = images.min().item(), images.max().item()
        raise ValueError(f"{name} must be in [-1, 1], got [{least:.3g}, {most:.3g}]")
    return images


class ReferenceMethods:
    """Makes the images of the reference methods, with the generator's autoencoder and text encoder."""

    def __init__(self, images: ImageStore, generator: Generator) -> None:
        self.images, self.generator = images, generator
        self._of_title: dict[str, Tensor] = {}  # vectors of titles, each encoded once

    @property
    def images_by_method(self) -> dict[str, MethodImages]:
        """By method, the function that returns its images `(B, 3, H, W)` of B examples; NaN where there is none."""
        return {NEAREST: self.nearest, RECONSTRUCTION: self.reconstruction, TRUTH: self.truth}

    def truth(self, examples: Sequence[Example]) -> Tensor:
        """Returns the first true image of each example."""
        return self.images.pixels(self.images.rows([require_truth(example)[0] for example in examples]))

    @torch.no_grad()
    def reconstruction(self, examples: Sequence[Example]) -> Tensor:
        """Returns the truth after the autoencoder: the best that the generator can draw."""
        truths = self.truth(examples)
        return fit_size(self.generator.decode(self.generator.encode_images(truths)), truths.shape[-1])

    @torch.no_grad()
    def nearest(self, examples: Sequence[Example]) -> Tensor:
        """Returns the liked image whose title is nearest the target's, by the text encoder; NaN if none was liked."""
        pairs = [(example.target, liked_with_image(self.images, example)) for example in examples]
        titles = dict.fromkeys(item.title for target, items in pairs if items for item in (target, *items))
        if new := [title for title in titles if title not in self._of_title]:
            texts = self.generator.text_encoder
            if (pooled := texts.encode([*map(Budget.of(texts).cut, new)]).pooled) is None:
                raise PmgError("text_encoder: it has no pooled vectors to compare titles by. Choose another one")
            self._of_title.update(zip(new, pooled, strict=True))
        found = [self._nearest_item(target, items) for target, items in pairs]
        there = torch.tensor([item is not None for item in found])
        size = self.images.size
        images = torch.full((len(examples), 3, size, size), torch.nan)
        if there.any():
            images[there] = self.images.pixels(self.images.rows([item for item in found if item is not None]))
        return images

    def _nearest_item(self, target: Item, items: Sequence[Item]) -> Item | None:
        """Returns the first one whose title's vector is nearest to the target's; None without items."""
        if not items:
            return None
        vectors = torch.stack([self._of_title[item.title] for item in items])
        return items[int(cosine_similarity(vectors, self._of_title[target.title][None]).argmax())]


@dataclass(frozen=True)
class ReferenceReader:
    """Reads what metrics compare images with, from the data set and from the records of a generation."""

    images: ImageStore
    inputs: Collection[Input]  # that metrics declare; nothing else is read
    comparison: Comparison  # its proposed method has the user's preference in words, its oracle never

    def read(self, examples: Sequence[Example], records: Mapping[str, Sequence[Record]]) -> References:
        """Returns the references of examples; their records by the example's id.

        PmgError if an example lacks a truth that a metric needs; ValueError if a reference image is out of range.
        """
        store = self.images
        readers: dict[Input, Callable[[Example], Any]] = {
            Input.TRUTHS: lambda e: checked("true images", store.pixels(store.rows(require_truth(e)))),
            Input.HISTORIES: lambda e: checked("images of a history", history_pixels(store, e)),
            Input.TARGET_WORDS: lambda e: records[e.id][0].target_keywords or (e.target.title,),
            Input.PREFERENCE_WORDS: lambda e: preference_words(records[e.id], self.comparison),
        }
        found: dict[str, Any] = {name: [*map(read, examples)] for name, read in readers.items() if name in self.inputs}
        return References(examples, **found)


def preference_words(records: Sequence[Record], comparison: Comparison) -> tuple[str, ...]:
    """Returns the keywords of one example's own user; empty where no method was given any.

    All methods are compared with the same words: those of the proposed method, or else of the first method that was
    given some. Those of the oracle are left out, since its images are generated from the true taste.
    """
    with_words = [r for r in records if r.control == "own" and r.method != comparison.oracle and r.preference_keywords]
    with_words.sort(key=lambda record: record.method != comparison.proposed)
    return with_words[0].preference_keywords if with_words else ()
