"""Blocks of a condition (target, preference keywords, soft tokens) and how they become one sequence.

Shapes: `B` batch, `L` tokens, `D` width of the generator's text encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Block:
    """One part of a condition.

    Attributes:
        tokens: `(B, L, D)`.
        mask: bool `(B, L)`, true where a token counts.
        pooled: one vector for the whole text, `(B, D)`; only the target block needs it.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor | None = None

    def __getitem__(self, rows: Tensor | slice) -> Block:
        pooled = None if self.pooled is None else self.pooled[rows]
        return Block(self.tokens[rows], self.mask[rows], pooled)

    def __len__(self) -> int:
        return len(self.tokens)

    def expand(self, batch: int) -> Block:
        """A block of one row, repeated `batch` times without a copy."""
        pooled = None if self.pooled is None else self.pooled.expand(batch, -1)
        return Block(self.tokens.expand(batch, -1, -1), self.mask.expand(batch, -1), pooled)

    def repeat(self, times: int) -> Block:
        """Each row `times` times in a row."""
        pooled = None if self.pooled is None else self.pooled.repeat_interleave(times, 0)
        return Block(self.tokens.repeat_interleave(times, 0), self.mask.repeat_interleave(times, 0), pooled)

    def scaled(self, weight: Tensor) -> Block:
        """Tokens times a weight a row `(B,)`: the paper's weighting of a block."""
        return replace(self, tokens=self.tokens * weight.to(self.tokens)[:, None, None])

    def masked(self, keep: Tensor) -> Block:
        """Hides the block in rows where `keep`, bool `(B,)`, is false."""
        return replace(self, mask=self.mask & keep[:, None])

    def padded(self, length: int) -> Block:
        """The block with hidden tokens appended up to `length`."""
        extra = length - self.tokens.shape[1]
        tokens = torch.nn.functional.pad(self.tokens, (0, 0, 0, extra))
        return replace(self, tokens=tokens, mask=torch.nn.functional.pad(self.mask, (0, extra)))


@dataclass(frozen=True)
class Condition:
    """What the denoiser sees: a cross-attention sequence `(B, L, D)`, its mask, the target's pooled vector."""

    tokens: Tensor
    mask: Tensor
    pooled: Tensor | None

    def __len__(self) -> int:
        return len(self.tokens)


def join(target: Block, *preference: Block) -> Condition:
    """Concatenates the target block and any preference blocks of the same batch."""
    blocks = (target, *preference)
    tokens = torch.cat([block.tokens for block in blocks], dim=1)
    return Condition(tokens, torch.cat([block.mask for block in blocks], dim=1), target.pooled)


def stack(conditions: Sequence[Condition]) -> Condition:
    """Conditions one after another in the batch, padded to the longest."""
    length = max(condition.tokens.shape[1] for condition in conditions)
    blocks = [Block(c.tokens, c.mask, c.pooled).padded(length) for c in conditions]
    pooled = None if blocks[0].pooled is None else torch.cat([block.pooled for block in blocks])
    return Condition(torch.cat([b.tokens for b in blocks]), torch.cat([b.mask for b in blocks]), pooled)


def drop_target(target: Block, empty: Block, keep: Tensor) -> Block:
    """Replaces the target by the empty text where `keep`, bool `(B,)`, is false (classifier-free guidance).

    Args:
        target: `(B, L, D)`.
        empty: the encoded empty text, one row, at most `L` tokens.
        keep: rows that stay.
    """
    blank = empty.padded(target.tokens.shape[1]).expand(len(target))
    choose = keep[:, None]
    pooled = None if target.pooled is None else torch.where(choose, target.pooled, blank.pooled)
    tokens = torch.where(choose[..., None], target.tokens, blank.tokens)
    return Block(tokens, torch.where(choose, target.mask, blank.mask), pooled)
