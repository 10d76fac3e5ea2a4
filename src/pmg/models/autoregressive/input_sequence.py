"""Input embeddings of a causal language model, of which some are hidden or weighted.

Shapes: `B` batch, `L` tokens, `D` width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class InputSequence:
    """A batch of sequences.

    Attributes:
        embeds: `(B, L, D)`, zero where hidden.
        visible: bool `(B, L)`; the first token of each row is.
        bias: added to the attention logits of the tokens, `(B, L)`, the lowest number where hidden.
    """

    embeds: Tensor
    visible: Tensor
    bias: Tensor

    @classmethod
    def of(cls, embeds: Tensor, visible: Tensor, bias: Tensor | None = None) -> InputSequence:
        """Returns a sequence whose hidden tokens have no effect, whatever they hold.

        Args:
            embeds: `(B, L, D)`.
            visible: bool `(B, L)`.
            bias: of visible tokens, `(B, L)`; None: 0.
        """
        weights = torch.zeros_like(embeds[..., 0]) if bias is None else bias.to(embeds)
        lowest = torch.finfo(embeds.dtype).min
        hidden = ~visible
        return cls(embeds.masked_fill(hidden[..., None], 0.0), visible, weights.masked_fill(hidden, lowest))

    @classmethod
    def join(cls, parts: Sequence[InputSequence]) -> InputSequence:
        """Returns sequences of one batch, one behind the other."""
        return cls(
            torch.cat([part.embeds for part in parts], 1), torch.cat([part.visible for part in parts], 1),
            torch.cat([part.bias for part in parts], 1),
        )  # fmt: skip

    @property
    def lengths(self) -> Tensor:
        """Visible tokens of each row, int64 `(B,)`."""
        return self.visible.sum(1)

    @property
    def positions(self) -> Tensor:
        """Positions of the tokens, int64 `(B, L)`; a hidden token moves none."""
        return (self.visible.long().cumsum(1) - 1).clamp(min=0)

    def attention_mask(self) -> Tensor:
        """Returns an additive mask `(B, 1, L, L)`: tokens attend to visible ones up to themselves."""
        length = self.embeds.shape[1]
        before = torch.ones(length, length, dtype=torch.bool, device=self.embeds.device).tril()
        return torch.where(before, self.bias[:, None, None], torch.finfo(self.bias.dtype).min)
