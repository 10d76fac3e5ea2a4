"""Preference sources of pictures, see `pmg.preferences.sources`."""

from __future__ import annotations

from dataclasses import dataclass

from pmg.configuration.ranges import Count
from pmg.data.dataset import require_liked
from pmg.domain import Example, PmgError
from pmg.models.diffusion.reference_images import ReferenceImages, encode_references
from pmg.preferences.sources import PictureSource, SourceContext


@dataclass(frozen=True)
class LikedPictures(PictureSource):
    """The pictures that a user liked last, `pictures` at most, as reference images: a baseline without training."""

    pictures: Count = 4

    def __call__(self, context: SourceContext) -> list[ReferenceImages]:
        """Returns each user's pictures, oldest first; PmgError if a user has none, or the generator takes none."""
        if not context.generator.supports.references:
            raise PmgError(
                f"this {type(context.generator).__name__} takes no reference images. Use generator=flux2_klein or "
                "qwen_image_edit, or leave out the methods with references"
            )
        return [self._encode(user, context) for user in context.examples]

    def _encode(self, user: Example, context: SourceContext) -> ReferenceImages:
        items = require_liked(context.images, user, "a reference image")[-self.pictures :]
        return encode_references(context.generator, context.images.pixels(context.images.rows(items)))
