"""After DRC (Xu et al., MM 2025): style and semantics in two sets of tokens, disentangled.

DRC trains two towers that separate style and semantics by reconstructing pictures whose difficulty is chosen, and
takes semantics from the reference picture. Here both have a closed form (Fisher's discriminant): style is what
differs most between users for its spread within them, semantics is what titles explain of the rest, so that the
target's title gives it. It is fitted to the histories of all users of the run, without targets or truths; nothing
else is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pmg.configuration.ranges import Count, Fraction, Positive
from pmg.domain import Item
from pmg.methods.picture_tokens import PictureTokens, read_picture_tokens
from pmg.preferences.sources import SourceContext, TokenSource
from pmg.preferences.stated import embed_texts
from pmg.training.visual_inputs import ImageEncoder


@dataclass(frozen=True)
class StyleAndSemantics(TokenSource):
    """The style of a user's pictures and the semantics of the target's title, composed to one set of tokens."""

    image_encoder: ImageEncoder  # encodes pictures as tokens
    directions: Count = 82  # number of directions that are style
    pictures: Count = 12  # most pictures a user
    shrinkage: Fraction = 0.84  # share of a round covariance in the one within users, for few pictures
    ridge: Positive = 20.0  # penalty of the regression from titles

    def __call__(self, context: SourceContext) -> Sequence[Callable[[Item], Tensor]]:
        """Returns of each user a function of the target that gives the tokens, `(n, D)`; see `read_picture_tokens`."""
        read = read_picture_tokens(context, self.image_encoder, self.pictures)
        users = len(context.examples)
        parts = disentangle(read, users, self.directions, self.shrinkage)
        embed = partial(embed_texts, context.generator.text_encoder)
        titles = embed([item.title for item in read.items])
        penalty = self.ridge * torch.eye(titles.shape[1])
        weights = torch.linalg.solve(titles.T @ titles + penalty, titles.T @ parts.semantics)
        styles = read.user_means(parts.styles, users)

        def compose(style: Tensor, target: Item) -> Tensor:
            """Returns a user's style with the target's semantics, `(n, D)`."""
            return read.as_tokens(parts.mean + style + embed([target.title])[0] @ weights)

        return [partial(compose, style) for style in styles]


@dataclass(frozen=True)
class Parts:
    """Picture tokens as a sum: the mean of all pictures `(F,)` + styles `(N, F)` + semantics `(N, F)`."""

    mean: Tensor
    styles: Tensor
    semantics: Tensor


def disentangle(read: PictureTokens, users: int, directions: int, shrinkage: float) -> Parts:
    """Splits the tokens of pictures; where the covariance within users is round, the parts are orthogonal.

    Style is spanned by the `directions` in which users differ most there.
    """
    mean = read.vectors.mean(0)
    centred = read.vectors - mean
    if not centred.any():  # one picture, or equal ones
        return Parts(mean, torch.zeros_like(centred), torch.zeros_like(centred))
    _, values, basis = torch.linalg.svd(centred, full_matrices=False)
    basis = basis[values > values[0] * 1e-4]  # (r, F)
    coded = centred @ basis.T
    means = read.user_means(coded, users)
    within = torch.cov((coded - means[read.owners]).T).reshape(len(basis), -1)
    rounded = (1 - shrinkage) * within + (shrinkage * within.diagonal().mean() + 1e-8) * torch.eye(len(within))
    scales, axes = torch.linalg.eigh(rounded)
    scales = scales.clamp(min=float(scales.max()) * 1e-6)  # directions in which no user's pictures differ
    whiten, colour = axes / scales.sqrt(), (axes * scales.sqrt()).T  # (r, r); coded @ whiten @ colour is coded
    _, _, between = torch.linalg.svd(means @ whiten, full_matrices=False)
    style, white = between[:directions], coded @ whiten
    styles = white @ style.T @ style
    return Parts(mean, styles @ colour @ basis, (white - styles) @ colour @ basis)
