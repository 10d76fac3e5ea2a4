"""The generator's own tokens of liked pictures, which several methods start from.

Shapes: `U` users, `N` pictures of all of them, `n` tokens a picture, `D` their width, `F` = n D.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pmg.domain import Item, PmgError
from pmg.preferences.sources import SourceContext
from pmg.training.visual_inputs import ImageEncoder, see_pictures


@dataclass(frozen=True)
class PictureTokens:
    """Tokens of the pictures that users liked."""

    vectors: Tensor  # the tokens of each picture side by side, `(N, F)`
    owners: Tensor  # the row of the user that each picture belongs to, int64 `(N,)`
    items: Sequence[Item]  # the N items
    width: int  # D

    def user_means(self, vectors: Tensor, users: int) -> Tensor:
        """Returns the mean of `vectors` `(N, K)` of each user, `(U, K)`; without pictures, that of all users."""
        counts = torch.bincount(self.owners, minlength=users)[:, None]
        sums = torch.zeros(users, vectors.shape[1]).index_add_(0, self.owners, vectors)
        means = sums / counts.clamp(min=1)
        return torch.where(counts > 0, means, means[counts[:, 0] > 0].mean(0))

    def as_tokens(self, vectors: Tensor) -> Tensor:
        """Returns vectors `(..., F)` as soft tokens `(..., n, D)`."""
        return vectors.unflatten(-1, (-1, self.width))


def read_picture_tokens(context: SourceContext, image_encoder: ImageEncoder, pictures: int) -> PictureTokens:
    """Returns the tokens of the latest `pictures` that each user liked; once for all methods of a run.

    PmgError if the vectors are no tokens of the generator, or no user liked anything that has a picture.
    """
    key = f"picture tokens {image_encoder!r} {pictures}"
    if key not in context.prepared:  # with the image encoder, so that no other one gets its address
        context.prepared[key] = image_encoder, _read(context, image_encoder, pictures)
    found: PictureTokens = context.prepared[key][1]
    return found


def _read(context: SourceContext, image_encoder: ImageEncoder, pictures: int) -> PictureTokens:
    if not image_encoder.are_tokens:
        raise PmgError(
            f"a {type(image_encoder).__name__} gives no tokens that this generator was trained with. Set "
            "image_encoder=style with generator=looks, or leave out the methods that read picture tokens"
        )
    likes = [
        [one for one in example.history if one.liked and context.images.has(one.item)][-pictures:]
        for example in context.examples
    ]
    if not (items := [one.item for each in likes for one in each]):
        raise PmgError("no user of this run liked anything that has a picture, and this method reads pictures alone")
    seen = see_pictures(image_encoder, likes, context.images)
    owners = torch.tensor([row for row, each in enumerate(likes) for _ in each])
    return PictureTokens(seen.vectors[torch.cat(list(seen.rows))], owners, items, context.generator.text_encoder.width)
