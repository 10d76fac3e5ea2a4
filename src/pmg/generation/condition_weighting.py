"""How a weight acts on a block of the condition; `Pipeline.weigh` gives it, a candidate's (w_p, w_t)."""

from __future__ import annotations

from typing import ClassVar, Protocol

from torch import Tensor

from pmg.models.diffusion.conditioning import Block


class Weighting(Protocol):
    """Gives each row of a block its weight; 1 leaves the row as it is."""

    attention_bias: ClassVar[bool]  # whether it needs a generator that adds a bias to attention logits

    def __call__(self, block: Block, weights: Tensor) -> Block:
        """The block `(B, L, D)` under `weights` `(B,)`, each at least 0."""


class ScaleWeighting:
    """Multiplies the block's embeddings (PMG, section 3: weighted condition embeddings)."""

    attention_bias = False

    def __call__(self, block: Block, weights: Tensor) -> Block:
        """Tokens times their row's weight."""
        return block.scaled(weights)


class AttentionWeighting:
    """Adds log w to the attention logits of the block's tokens, and leaves the embeddings alone.

    The softmax then gives each token w times its share: a weight of 2 equals every token of the block twice, one of 0
    a block that isn't there. In cross-attention, a block without others has all the attention under any weight.
    """

    attention_bias = True

    def __call__(self, block: Block, weights: Tensor) -> Block:
        """Logits plus the logarithm of their row's weight."""
        return block.with_attention_bias(weights)
