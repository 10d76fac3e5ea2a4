"""Arms that no model personalises: the nearest image of the history, the truth, and the truth after the VAE."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from pmg.data.dataset import ImageStore, liked_with_image, require_truth
from pmg.domain import Example, Item, PmgError
from pmg.evaluation.comparison import RECONSTRUCTION, TRUTH
from pmg.evaluation.set_comparison import ArmImages
from pmg.models.diffusion.interfaces import Generator
from pmg.models.image_sizes import fit_size

NEAREST = "nearest"


def history_pixels(images: ImageStore, example: Example) -> Tensor:
    """Returns the images of `liked_with_image`, `(N, 3, H, W)`."""
    liked = liked_with_image(images, example)
    return images.pixels(images.rows(liked)) if liked else torch.zeros(0, 3, images.size, images.size)


class ReferenceArms:
    """Makes the images of the reference arms.

    Args:
        images: of all items.
        generator: its autoencoder reconstructs the truth, and its text encoder compares titles.
    """

    def __init__(self, images: ImageStore, generator: Generator) -> None:
        self.images, self.generator = images, generator

    @property
    def images_by_arm(self) -> dict[str, ArmImages]:
        """For each arm the function that returns its images `(B, 3, H, W)` of B examples; NaN where there is none."""
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
        """Returns the liked image whose title is nearest to the target's, by the text encoder.

        NaN for users without a liked image.
        """
        found = [self._nearest_item(example) for example in examples]
        there = torch.tensor([item is not None for item in found])
        size = self.images.size
        images = torch.full((len(examples), 3, size, size), torch.nan)
        if there.any():
            images[there] = self.images.pixels(self.images.rows([item for item in found if item is not None]))
        return images

    def _nearest_item(self, example: Example) -> Item | None:
        items = list({item.id: item for item in liked_with_image(self.images, example)}.values())
        if not items:
            return None
        pooled = self.generator.text_encoder.encode([example.target.title, *(item.title for item in items)]).pooled
        if pooled is None:
            raise PmgError("text_encoder: it has no pooled vectors, by which titles are compared. Choose another one")
        return items[int(cosine_similarity(pooled[1:], pooled[:1]).argmax())]
