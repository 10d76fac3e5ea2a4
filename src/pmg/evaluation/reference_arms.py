"""Arms that no model personalises: the nearest image of the history, the truth, and the truth after the VAE."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from pmg.data.dataset import ImageStore
from pmg.domain import Example, Item, PmgError
from pmg.evaluation.comparison import RECONSTRUCTION, TRUTH
from pmg.evaluation.set_comparison import ArmImages
from pmg.models.diffusion.interfaces import Generator
from pmg.models.vision.image_sizes import fit_size

NEAREST = "nearest"


def liked_with_image(images: ImageStore, example: Example) -> list[Item]:
    """Returns the items that an example's user liked and that have an image, oldest first.

    Raises:
        PmgError: there is none.
    """
    liked = [item for item in example.liked if images.has(item)]
    if not liked:
        raise PmgError(f"example '{example.id}': no liked item of the history has an image to compare with")
    return liked


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
        """For each arm the function that returns its images `(B, 3, H, W)` of B examples."""
        return {NEAREST: self.nearest, RECONSTRUCTION: self.reconstruction, TRUTH: self.truth}

    def truth(self, examples: Sequence[Example]) -> Tensor:
        """Returns the first true image of each example."""
        return self.images.pixels(self.images.rows([example.truth[0] for example in examples]))

    @torch.no_grad()
    def reconstruction(self, examples: Sequence[Example]) -> Tensor:
        """Returns the truth after the autoencoder: the best that the generator can draw."""
        truths = self.truth(examples)
        return fit_size(self.generator.decode(self.generator.encode_images(truths)), truths.shape[-1])

    @torch.no_grad()
    def nearest(self, examples: Sequence[Example]) -> Tensor:
        """Returns the liked image whose title is nearest to the target's, by the text encoder."""
        return self.images.pixels(self.images.rows([self._nearest_item(example) for example in examples]))

    def _nearest_item(self, example: Example) -> Item:
        items = list({item.id: item for item in liked_with_image(self.images, example)}.values())
        pooled = self.generator.text_encoder.encode([example.target.title, *(item.title for item in items)]).pooled
        if pooled is None:
            raise PmgError("text_encoder: it has no pooled vectors, by which titles are compared. Choose another one")
        return items[int(cosine_similarity(pooled[1:], pooled[:1]).argmax())]
