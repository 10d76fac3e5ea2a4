"""After Pigeon (Xu et al., WWW 2025): discrete tokens of the history, kept or masked by their fit to the target.

Pigeon's multimodal model reads discrete visual tokens of the history, a mask generator that is trained with it hides
single tokens that say nothing about the reference, and preference optimisation follows. Here the generator's own
picture tokens become discrete by residual codebooks, which are fitted to all pictures of the run; whole pictures are
kept or masked, by the cosine of titles; nothing is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from pmg.configuration.ranges import Count, Fraction, Seed
from pmg.domain import Item
from pmg.methods.picture_tokens import PictureTokens, read_picture_tokens
from pmg.preferences.sources import SourceContext, TokenSource
from pmg.preferences.stated import embed_texts
from pmg.training.visual_inputs import ImageEncoder

PER_CODE = 4  # vectors for each entry of a codebook, at least


@dataclass(frozen=True)
class MaskedHistory(TokenSource):
    """The mean of the discrete tokens of those liked pictures that fit the target best."""

    image_encoder: ImageEncoder  # encodes pictures as tokens
    mask: Fraction = 0.0  # share of a user's pictures that is left out; 0 keeps all, 1 all but the best one
    pictures: Count = 12  # most pictures a user
    codes: Count = 64  # most entries of a codebook
    levels: Count = 4  # codebooks, each of what the ones before leave over
    seed: Seed = 0  # of the codebooks

    def __call__(self, context: SourceContext) -> Sequence[Callable[[Item], Tensor]]:
        """Returns of each user a function of the target that gives the tokens, `(n, D)`; errors as of picture tokens.

        A user without pictures has the mean of all.
        """
        read = read_picture_tokens(context, self.image_encoder, self.pictures)
        discrete = quantise(read.vectors, self.codes, self.levels, self.seed)
        embed = partial(embed_texts, context.generator.text_encoder)
        titles = embed([item.title for item in read.items])
        return [
            partial(self._fit, read, discrete, titles, embed, (read.owners == row).nonzero()[:, 0])
            for row in range(len(context.examples))
        ]

    def _fit(
        self, read: PictureTokens, discrete: Tensor, titles: Tensor, embed: Callable[[Sequence[str]], Tensor],
        own: Tensor, target: Item,
    ) -> Tensor:  # fmt: skip
        if not len(own):
            return read.as_tokens(discrete.mean(0))
        fit = titles[own] @ embed([target.title])[0]
        kept = own[fit.topk(keep_count(len(own), self.mask)).indices]
        return read.as_tokens(discrete[kept].mean(0))


def keep_count(pictures: int, mask: float) -> int:
    """Returns how many of `pictures` are kept, at least 1."""
    return max(1, pictures - round(mask * pictures))


def quantise(vectors: Tensor, codes: int, levels: int, seed: int) -> Tensor:
    """Returns vectors `(N, F)`, each as the sum of one entry of each of `levels` residual codebooks.

    A codebook has at most `codes` entries, and one for at least `PER_CODE` vectors.
    """
    found, rest = torch.zeros_like(vectors), vectors
    for level in range(levels):
        if not rest.any():
            break
        entries = max(1, min(codes, len(rest) // PER_CODE))
        book, chosen = kmeans2(rest.numpy(), entries, iter=20, minit="++", rng=seed + level)
        nearest = torch.from_numpy(book).to(vectors)[torch.from_numpy(chosen).long()]
        found, rest = found + nearest, rest - nearest
    return found
