"""Text generation token by token; see `LanguageModel.generate`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from pmg.models.language.context import Context

Pick = Callable[[Tensor], Tensor]
"""Chooses the next tokens, int64 `(B,)`, from logits `(B, V)`."""


def greedy(logits: Tensor) -> Tensor:
    """Returns the most likely token of each row."""
    return logits.argmax(-1)


def sampled(temperature: float, seed: int) -> Pick:
    """Returns a function that draws tokens from the softmax of logits / `temperature`, a number above 0.

    Every row is drawn with the same random numbers (the Gumbel trick), so that the text of one
    history does not depend on the others in its batch.
    """
    rng = torch.Generator().manual_seed(seed)

    def pick(logits: Tensor) -> Tensor:
        """Returns the drawn tokens of logits `(B, V)`, int64 `(B,)`."""
        uniform = torch.rand(logits.shape[-1], generator=rng).clamp(min=1e-20)
        return (logits / temperature - (-uniform.log()).log().to(logits.device)).argmax(-1)

    return pick


def generate_tokens(
    forward: Callable[[Tensor], Tensor], prompts: Tensor, ends: Collection[int], max_new_tokens: int, pick: Pick
) -> list[list[int]]:
    """Generates the tokens of each row, without the one that ends it, up to the maximal length.

    Args:
        forward: appends tokens `(B, N)` to the sequence; returns the logits of the next token, `(B, V)`.
        prompts: int64 `(B, N)`, the first tokens.
        ends: tokens that end a row.
        max_new_tokens: the longest row.
        pick: chooses tokens.
    """
    rows: list[list[int]] = [[] for _ in prompts]
    unfinished, tokens = set(range(len(rows))), prompts
    for _ in range(max_new_tokens):
        tokens = pick(forward(tokens))[:, None]
        unfinished -= {row for row in unfinished if int(tokens[row]) in ends}
        for row in unfinished:
            rows[row].append(int(tokens[row]))
        if not unfinished:
            break
    return rows


def collect_end_tokens(*sources: int | Sequence[int] | None) -> frozenset[int]:
    """Returns the end tokens of several configurations, each of which has one, several or none."""
    named = (torch.tensor([] if source is None else source).view(-1).tolist() for source in sources)
    return frozenset(int(token) for tokens in named for token in tokens)


class IncrementalDecoder:
    """Appends tokens to `B` histories at every call, with a cache that grows.

    Args:
        context: the histories.
        device: of the model.
        forward: takes the cache, tokens `(B, N)`, bool `(B, N, L + N)`, which new token attends to which, and the
            positions of these, `(B, N)`, and of all, `(B, L + N)`; returns the logits of the next token, `(B, V)`.
    """

    def __init__(
        self, context: Context, device: torch.device,
        forward: Callable[[DynamicCache, Tensor, Tensor, tuple[Tensor, Tensor]], Tensor],
    ) -> None:  # fmt: skip
        self.forward, self.cache = forward, context.to_cache(device)
        self.seen, self.position = context.padding_mask(), context.positions[:, None]
        self.keys = torch.arange(self.seen.shape[1]).expand(self.seen.shape)

    def __call__(self, tokens: Tensor) -> Tensor:
        """Returns the logits of the token after `tokens` `(B, N)`: `(B, V)`."""
        batch, new = tokens.shape
        causal = torch.ones(new, new, dtype=torch.bool).tril().expand(batch, -1, -1)
        seen = torch.cat([self.seen[:, None].expand(-1, new, -1), causal], dim=2)
        positions = self.position + torch.arange(new)
        self.keys = torch.cat([self.keys, positions], dim=1)
        logits = self.forward(self.cache, tokens, seen, (positions, self.keys))
        self.seen, self.position = seen[:, -1], self.position + new
        return logits
