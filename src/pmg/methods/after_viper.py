"""After ViPer (Salehi et al., ECCV 2024): liked minus disliked attributes, as arithmetic of embeddings.

In ViPer people comment on pictures, a fine-tuned vision-language model turns comments into attributes, and the
embedding of the prompt moves towards the liked and away from the disliked ones. Here the attributes are counted in
the captions of liked and disliked pictures, the result is a block of soft tokens beside the target instead of a sum
with it, so that it has a guidance scale of its own, and where a user dislikes nothing, what the crowd likes is
subtracted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pmg.configuration.ranges import Count, NotNegative
from pmg.domain import Example
from pmg.methods.word_tokens import own_tokens
from pmg.models.diffusion.interfaces import PromptEncoder
from pmg.preferences.keyword_sources import count_keywords
from pmg.preferences.sources import SourceContext, TokenSource


@dataclass(frozen=True)
class LikedMinusDisliked(TokenSource):
    """A token of each liked attribute, less a share of the mean disliked one."""

    degree: NotNegative = 0.49  # that share; 0 subtracts nothing
    words: Count = 13  # most attributes a user; those of fewer are repeated

    def __call__(self, context: SourceContext) -> Tensor:
        """Returns the tokens of all users, `(U, words, D)`."""
        encoder = context.generator.text_encoder
        liked = [embed_words(encoder, self._count(example, context)) for example in context.examples]
        disliked = [embed_words(encoder, self._count(swap_likes(one), context)) for one in context.examples]
        crowd = torch.cat(liked).mean(0) if any(len(each) for each in liked) else torch.zeros(encoder.width)
        rows = [
            subtract(own, against.mean(0) if len(against) else crowd, self.degree)
            for own, against in zip(liked, disliked, strict=True)
        ]
        repeats = [torch.arange(self.words) % max(len(row), 1) for row in rows]
        empty = crowd[None]  # a user whose attributes are unknown is one of the crowd
        return torch.stack([(row if len(row) else empty)[kept] for row, kept in zip(rows, repeats, strict=True)])

    def _count(self, example: Example, context: SourceContext) -> Sequence[str]:
        if not example.liked:
            return ()
        return count_keywords(example, context.extractor.scenario, context.captions, self.words).words


def swap_likes(example: Example) -> Example:
    """Returns the example of a user who likes what this one dislikes, and the reverse."""
    return replace(example, history=tuple(replace(one, liked=not one.liked) for one in example.history))


def embed_words(encoder: PromptEncoder, words: Sequence[str]) -> Tensor:
    """Returns the mean of each word's own tokens, `(W, D)`; words without any are left out."""
    means = [tokens.mean(0) for tokens in own_tokens(encoder, words) if len(tokens)] if words else []
    return torch.stack(means) if means else torch.zeros(0, encoder.width)


def subtract(liked: Tensor, disliked: Tensor, degree: float) -> Tensor:
    """Returns `liked` `(W, D)` less `degree` times `disliked` `(D,)`, as long as they were before."""
    moved = liked - degree * disliked
    return moved * liked.norm(dim=1, keepdim=True) / moved.norm(dim=1, keepdim=True).clamp(min=1e-6)
