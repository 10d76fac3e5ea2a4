"""A method of its own, entered into the benchmark of methods (docs/field.md): the most typical liked picture."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pmg.configuration.ranges import Count
from pmg.methods.picture_tokens import read_picture_tokens
from pmg.preferences.sources import SourceContext, TokenSource
from pmg.training.visual_inputs import ImageEncoder


@dataclass(frozen=True)
class MedoidPicture(TokenSource):
    """The tokens of the liked picture that is nearest to all others that the user liked."""

    image_encoder: ImageEncoder
    pictures: Count = 12

    def __call__(self, context: SourceContext) -> Tensor:
        """Returns the tokens of all users, `(U, n, D)`; a user without pictures gets the mean of the others."""
        read = read_picture_tokens(context, self.image_encoder, self.pictures)
        rows = read.user_means(read.vectors, len(context.examples))
        for user in range(len(context.examples)):
            own = read.vectors[read.owners == user]
            if len(own):
                rows[user] = own[torch.cdist(own, own).sum(1).argmin()]
        return read.as_tokens(rows)
