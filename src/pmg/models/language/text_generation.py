"""Writing free text token by token; see `LanguageModel.generate`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from pmg.models.language.context import Context

Pick = Callable[[Tensor], Tensor]
"""Chooses the next tokens, int64 `(B,)`, from logits `(B, V)`."""


def greedy(logits: Tensor) -> Tensor:
    """The likeliest token of each row."""
    return logits.argmax(-1)


def sampled(temperature: float, seed: int) -> Pick:
    """Draws tokens from the softmax of logits / `temperature`.

    Every row is drawn with the same random numbers (the Gumbel trick), so that what is written for one
    history does not depend on the others in its batch.

    Raises:
        ValueError: the temperature is not above 0.
    """
    if temperature <= 0:
        raise ValueError(f"the temperature must be above 0, got {temperature}")
    generator = torch.Generator().manual_seed(seed)

    def pick(logits: Tensor) -> Tensor:
        uniform = torch.rand(logits.shape[-1], generator=generator).clamp(min=1e-20)
        return (logits / temperature - (-uniform.log()).log().to(logits.device)).argmax(-1)

    return pick


def write(
    read: Callable[[Tensor], Tensor], prompts: Tensor, ends: Collection[int], max_new_tokens: int, pick: Pick
) -> list[list[int]]:
    """Writes until each row has ended or is as long as it may be.

    Args:
        read: reads further tokens `(B, N)` behind all that it has read; gives the logits of what follows, `(B, V)`.
        prompts: int64 `(B, N)`, read first.
        ends: tokens that end a row.
        max_new_tokens: the longest row.
        pick: chooses tokens.

    Returns:
        The tokens of each row, without the one that ended it.
    """
    rows: list[list[int]] = [[] for _ in prompts]
    going, tokens = set(range(len(rows))), prompts
    for _ in range(max_new_tokens):
        tokens = pick(read(tokens))[:, None]
        going -= {row for row in going if int(tokens[row]) in ends}
        for row in going:
            rows[row].append(int(tokens[row]))
        if not going:
            break
    return rows


def end_tokens(*sources: int | Sequence[int] | None) -> frozenset[int]:
    """End tokens as configurations name them: one, several or none."""
    named = (torch.tensor([] if source is None else source).view(-1).tolist() for source in sources)
    return frozenset(int(token) for tokens in named for token in tokens)


class Continuation:
    """Reads on behind `B` histories at every call, and keeps what it has read.

    Args:
        context: the histories.
        device: where the model stands.
        forward: reads tokens `(B, N)` at positions `(B, N)` behind all that a cache holds, under bool
            `(B, N, L + N)`, which new token sees which; gives the logits of what follows, `(B, V)`.
    """

    def __init__(
        self,
        context: Context,
        device: torch.device,
        forward: Callable[[DynamicCache, Tensor, Tensor, Tensor], Tensor],
    ) -> None:
        self.forward, self.cache = forward, context.to_cache(device)
        self.seen, self.position = context.padding_mask(), context.lengths[:, None]

    def __call__(self, tokens: Tensor) -> Tensor:
        """Returns the logits of what follows `tokens` `(B, N)`: `(B, V)`."""
        batch, new = tokens.shape
        causal = torch.ones(new, new, dtype=torch.bool).tril().expand(batch, -1, -1)
        seen = torch.cat([self.seen[:, None].expand(-1, new, -1), causal], dim=2)
        logits = self.forward(self.cache, tokens, self.position + torch.arange(new), seen)
        self.seen, self.position = seen[:, -1], self.position + new
        return logits
