"""After DrUM (Kim et al., ICCV 2025): weighted prompts of the history, in the text space; the generator isn't trained.

DrUM keeps a few typical prompts of a user's history (a coreset), and adds their text embeddings to the target's by
weights of a small transformer. Here the prompts are captions of liked pictures and the user's own messages, a weight
is the softmax of the cosine with their mean, and the sum is a block of its own beside the target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pmg.configuration.ranges import Count, Positive
from pmg.domain import Example
from pmg.models.diffusion.interfaces import PromptEncoder
from pmg.preferences.sources import SourceContext, TokenSource
from pmg.preferences.stated import embed_texts, own_messages, split_sentences


@dataclass(frozen=True)
class WeightedHistory(TokenSource):
    """The weighted mean of the encoded prompts of a history, token by token.

    Attributes:
        temperature: of the weights: small ones keep the most typical prompts alone, large ones weight all equally.
        pictures: most liked items a user.
        tokens: n, tokens of the result; longer prompts are cut.
    """

    temperature: Positive = 0.1
    pictures: Count = 12
    tokens: Count = 24

    def __call__(self, context: SourceContext) -> Tensor:
        """Returns the tokens of all users, `(U, n, D)`."""
        encoder = context.generator.text_encoder
        return torch.stack([
            self.combine(encoder, list_prompts(example, context.captions, self.pictures, encoder))
            for example in context.examples
        ])  # fmt: skip

    def combine(self, encoder: PromptEncoder, prompts: list[str]) -> Tensor:
        """Returns the weighted tokens of one user's prompts, `(n, D)`; where there is none, of an empty prompt."""
        prompts = prompts or [""]
        vectors = embed_texts(encoder, prompts)
        weights = (vectors @ vectors.mean(0) / self.temperature).softmax(0)
        encoded = encoder.encode(prompts, padded=False)
        shares = weights[:, None] * encoded.mask  # (H, L)
        mixed = (shares[..., None] * encoded.tokens).sum(0) / shares.sum(0).clamp(min=1e-9)[:, None]
        length = int(encoded.mask.any(0).sum())
        return mixed[torch.arange(self.tokens).clamp(max=length - 1)]


def list_prompts(
    example: Example, captions: Mapping[str, str], pictures: int, encoder: PromptEncoder
) -> list[str]:  # fmt: skip
    """Returns the captions of the latest liked items, then the sentences of the user's own messages."""
    own = [captions.get(item.id, "") or item.title for item in example.liked[-pictures:]]
    return [part for text in (*own, *own_messages(example.conversation)) for part in split_sentences(text, encoder)]
