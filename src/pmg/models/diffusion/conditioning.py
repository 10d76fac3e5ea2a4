"""Blocks of a condition (target, preference keywords, soft tokens) and how they become one sequence.

Shapes: `B` batch, `L` tokens, `D` width of the generator's text encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

NO_WEIGHT = -100.0  # the logarithm of a weight of zero: finite, so that a block without others gives no NaN


@dataclass(frozen=True)
class Block:
    """One part of a condition."""

    tokens: Tensor  # `(B, L, D)`
    mask: Tensor  # bool `(B, L)`, true where a token counts
    pooled: Tensor | None = None  # one vector for the whole text, `(B, D)`; only the target block needs it
    bias: Tensor | None = None  # added to the tokens' attention logits, `(B, L)`; None adds nothing

    def __getitem__(self, rows: Tensor | slice) -> Self:
        return self._map(lambda part: part[rows])

    def __len__(self) -> int:
        return len(self.tokens)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        pooled = None if self.pooled is None else change(self.pooled)
        bias = None if self.bias is None else change(self.bias)
        return replace(self, tokens=change(self.tokens), mask=change(self.mask), pooled=pooled, bias=bias)

    def to(self, device: torch.device | str) -> Self:
        """Returns the block on a device."""
        return self._map(lambda part: part.to(device))

    def expand(self, batch: int) -> Self:
        """Returns a block of one row repeated `batch` times, without a copy."""
        return self._map(lambda part: part.expand(batch, *part.shape[1:]))

    def repeat(self, times: int) -> Self:
        """Returns each row `times` times in succession."""
        return self._map(lambda part: part.repeat_interleave(times, 0))

    def scaled(self, weight: Tensor) -> Self:
        """Returns tokens times a weight a row `(B,)`: the paper's weighting of a block."""
        return replace(self, tokens=self.tokens * weight.to(self.tokens)[:, None, None])

    def with_attention_bias(self, weight: Tensor) -> Self:
        """Returns the block with log weight `(B,)` on its logits: a token of weight 2 counts like two of it."""
        bias = weight.to(self.tokens).log().clamp(min=NO_WEIGHT)[:, None].expand(self.mask.shape)
        return replace(self, bias=bias)

    def masked(self, keep: Tensor) -> Self:
        """Returns the block, hidden in rows where `keep`, bool `(B,)`, is false."""
        return replace(self, mask=self.mask & keep[:, None])

    def padded(self, length: int) -> Self:
        """Returns the block with hidden tokens appended up to `length`."""
        extra = length - self.tokens.shape[1]
        bias = None if self.bias is None else pad(self.bias, (0, extra))
        return replace(self, tokens=pad(self.tokens, (0, 0, 0, extra)), mask=pad(self.mask, (0, extra)), bias=bias)


@dataclass(frozen=True)
class TextBlock(Block):
    """An encoded text, with one vector for the whole text, `(B, D)`."""

    pooled: Tensor


@dataclass(frozen=True)
class SoftBlock(Block):
    """Soft tokens, whose mean generators may take as a second pooled vector."""

    @classmethod
    def of(cls, tokens: Tensor) -> SoftBlock:
        """Returns tokens `(B, L, D)` that all count."""
        return cls(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))

    def with_attention_bias(self, weight: Tensor) -> Self:
        """Returns what `Block` does; rows of weight 0 are hidden, from `mean`, too."""
        return super().with_attention_bias(weight).masked((weight > 0).to(self.mask.device))

    def mean(self) -> Tensor:
        """Returns the mean of the tokens that count, `(B, D)`; zero where none does."""
        counts = self.mask[..., None]
        return (self.tokens * counts).sum(1) / counts.sum(1).clamp(min=1)


@dataclass(frozen=True)
class ReferenceLatents:
    """Reference images that a generator sees beside the text."""

    latents: Tensor  # `(B, R, C, h, w)`, zero where there are fewer than R
    mask: Tensor  # bool `(B, R)`, true where there is one; these come first

    @classmethod
    def of(cls, rows: Sequence[Tensor]) -> ReferenceLatents:
        """Returns B rows of latents `(R_i, C, h, w)`, padded to the longest."""
        counts = torch.tensor([len(row) for row in rows])
        return cls(pad_sequence(list(rows), batch_first=True), torch.arange(int(counts.max())) < counts[:, None])

    def repeat(self, times: int) -> ReferenceLatents:
        """Returns each row `times` times in succession."""
        return ReferenceLatents(self.latents.repeat_interleave(times, 0), self.mask.repeat_interleave(times, 0))


@dataclass(frozen=True)
class Condition:
    """What a generator is conditioned on."""

    tokens: Tensor  # `(B, L, D)`
    mask: Tensor  # bool `(B, L)`, true where a token counts
    pooled: Tensor | None  # the target's pooled vector `(B, D)`, or None
    bias: Tensor | None = None  # added to the tokens' attention logits, `(B, L)`, or None
    soft_mean: Tensor | None = None  # the mean of the soft tokens `(B, D)`, see `SoftBlock`; None: there are none
    # visible tokens of the target block of each row, which come first, `(B,)`; None: all
    target_length: Tensor | None = None
    references: ReferenceLatents | None = None  # reference images, for generators that take some; None: there are none

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device, dtype: torch.dtype) -> Condition:
        """Returns the condition on a device, with floating point values of a type."""
        pooled, bias, soft_mean = (
            None if part is None else part.to(device, dtype) for part in (self.pooled, self.bias, self.soft_mean)
        )
        length = None if self.target_length is None else self.target_length.to(device)
        images = self.references
        moved = None if images is None else ReferenceLatents(images.latents.to(device, dtype), images.mask.to(device))
        return Condition(self.tokens.to(device, dtype), self.mask.to(device), pooled, bias, soft_mean, length, moved)

    def pooled_with_soft_mean(self) -> Tensor:
        """Returns the pooled vector with the mean of the soft tokens behind it, or zeros, `(B, 2 * D)`."""
        soft_mean = torch.zeros_like(self.tokens[:, 0]) if self.soft_mean is None else self.soft_mean
        return soft_mean if self.pooled is None else torch.cat([self.pooled, soft_mean], 1)


def join(target: Block, *preference: Block) -> Condition:
    """Returns the target block and any preference blocks of the same batch as one sequence."""
    blocks = (target, *preference)
    tokens = torch.cat([block.tokens for block in blocks], dim=1)
    mask = torch.cat([block.mask for block in blocks], dim=1)
    means = [block.mean() for block in blocks if isinstance(block, SoftBlock)]
    mean = sum(means[1:], means[0]) if means else None
    return Condition(tokens, mask, target.pooled, _biases(blocks, 1), mean, target.mask.sum(1))


def join_seen(blocks: Mapping[str, Block], empty: Block, seen: Collection[str]) -> Condition:
    """Returns the blocks that are `seen`, by name, as one sequence; the first is the target.

    The empty text takes the target's place where the target isn't seen.
    """
    target, *preference = blocks
    shown = [blocks[name] for name in preference if name in seen]
    return join(blocks[target] if target in seen else empty, *shown)


def stack(conditions: Sequence[Condition]) -> Condition:
    """Returns conditions concatenated along the batch, padded to the longest; all have reference images, or none."""
    length = max(condition.tokens.shape[1] for condition in conditions)
    blocks = [Block(c.tokens, c.mask, c.pooled, c.bias).padded(length) for c in conditions]
    pooled = [block.pooled for block in blocks if block.pooled is not None]
    tokens, mask = torch.cat([b.tokens for b in blocks]), torch.cat([b.mask for b in blocks])
    means = [(condition.soft_mean, condition.tokens[:, 0]) for condition in conditions]
    lengths = [c.mask.sum(1) if c.target_length is None else c.target_length for c in conditions]
    references, images = [c.references for c in conditions if c.references is not None], None
    if references:
        images = ReferenceLatents(torch.cat([r.latents for r in references]), torch.cat([r.mask for r in references]))
    return Condition(
        tokens, mask, torch.cat(pooled) if pooled else None, _biases(blocks, 0), _concatenate(means, 0),
        torch.cat(lengths), images,
    )  # fmt: skip


def _biases(blocks: Sequence[Block], dim: int) -> Tensor | None:
    """Returns all biases along `dim`, zeros where a block has none; None where no block has one."""
    return _concatenate([(block.bias, block.tokens[..., 0]) for block in blocks], dim)


def _concatenate(parts: Sequence[tuple[Tensor | None, Tensor]], dim: int) -> Tensor | None:
    """Returns the first of each pair along `dim`, zeros like the second where it is None; None where all are."""
    if all(part is None for part, _ in parts):
        return None
    return torch.cat([torch.zeros_like(like) if part is None else part for part, like in parts], dim)


def drop_target(target: TextBlock, empty: TextBlock, keep: Tensor) -> TextBlock:
    """Returns the target `(B, L, D)`, the empty text where `keep`, bool `(B,)`, is false (classifier-free guidance).

    `empty` has one row, of at most `L` tokens.
    """
    blank = empty.padded(target.tokens.shape[1]).expand(len(target))
    choose = keep[:, None]
    tokens = torch.where(choose[..., None], target.tokens, blank.tokens)
    mask = torch.where(choose, target.mask, blank.mask)
    return TextBlock(tokens, mask, torch.where(choose, target.pooled, blank.pooled))
