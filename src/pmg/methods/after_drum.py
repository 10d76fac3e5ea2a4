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
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from pmg.configuration.ranges import Count, Positive
from pmg.domain import Example
from pmg.methods.word_tokens import own_tokens
from pmg.models.diffusion.interfaces import PromptEncoder
from pmg.preferences.sources import SourceContext, TokenSource
from pmg.preferences.stated import embed_texts, own_messages, split_sentences


@dataclass(frozen=True)
class WeightedHistory(TokenSource):
    """The weighted mean of the encoded prompts of a history, token by token."""

    temperature: Positive = 0.036  # a small one keeps the most typical prompts alone, a large one all equally
    pictures: Count = 12  # most liked items of a user, the latest
    tokens: Count = 43  # of a user; longer prompts are cut

    def __call__(self, context: SourceContext) -> Tensor:
        """Returns the tokens of all users, `(U, n, D)`."""
        encoder = context.generator.text_encoder
        prompts = [list_prompts(one, context.captions, self.pictures, encoder) for one in context.examples]
        return torch.stack([self.combine(encoder, own) for own in prompts])

    def combine(self, encoder: PromptEncoder, prompts: list[str]) -> Tensor:
        """Returns the weighted tokens of a user's prompts, `(n, D)`, repeated if they are fewer; zeros without any."""
        if not (prompts := [prompt for prompt in prompts if prompt.strip()]):
            return torch.zeros(self.tokens, encoder.width)
        vectors, own = embed_texts(encoder, prompts), own_tokens(encoder, prompts)
        weights = (vectors @ normalize(vectors.mean(0), dim=0) / self.temperature).softmax(0)
        present = pad_sequence([torch.ones(len(tokens)) for tokens in own], batch_first=True)  # (H, L)
        shares = weights[:, None] * present
        mixed = (shares[..., None] * pad_sequence(own, batch_first=True)).sum(0) / shares.sum(0)[:, None]
        return mixed[torch.arange(self.tokens) % len(mixed)]


def list_prompts(example: Example, captions: Mapping[str, str], pictures: int, encoder: PromptEncoder) -> list[str]:
    """Returns the captions of the latest liked items, then the sentences of the user's own messages."""
    own = [captions.get(item.id, "") or item.title for item in example.liked[-pictures:]]
    return [part for text in (*own, *own_messages(example.conversation)) for part in split_sentences(text, encoder)]
