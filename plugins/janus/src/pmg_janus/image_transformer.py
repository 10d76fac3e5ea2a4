"""A language model that predicts image tokens: Janus's language model with the embeddings and the head of images.

Shapes: `B` batch, `L` tokens, `D` width, `N` entries of the codebook.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import DynamicCache

from pmg.models.language.compatibility import find_cache_argument
from pmg.models.loading.memory_tracker import checkpoint_contexts


@dataclass(frozen=True)
class InputSequence:
    """A batch of sequences."""

    embeds: Tensor  # `(B, L, D)`, zero where hidden
    visible: Tensor  # bool `(B, L)`, true for a row's first token
    bias: Tensor  # `(B, L)`, added to attention logits of the tokens, the lowest number where hidden

    @classmethod
    def of(cls, embeds: Tensor, visible: Tensor, bias: Tensor | None = None) -> InputSequence:
        """Returns a sequence whose hidden tokens have no effect, whatever they hold; without `bias` it is 0."""
        weights = torch.zeros_like(embeds[..., 0]) if bias is None else bias.to(embeds)
        lowest = torch.finfo(embeds.dtype).min
        hidden = ~visible
        return cls(embeds.masked_fill(hidden[..., None], 0.0), visible, weights.masked_fill(hidden, lowest))

    @classmethod
    def join(cls, parts: Sequence[InputSequence]) -> InputSequence:
        """Returns sequences of one batch, one behind the other."""
        return cls(*(torch.cat([getattr(part, name) for part in parts], 1) for name in ("embeds", "visible", "bias")))

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


class ImageTransformer(nn.Module):
    """The parts of `JanusModel` that generate; its vision encoder, which reads images, is left out.

    `width` is `D`. With `gradient_checkpointing` activations are computed again in the backward pass.
    """

    def __init__(self, model: Any, gradient_checkpointing: bool = False) -> None:
        super().__init__()
        self.language_model = model.language_model
        self.embeddings, self.aligner = model.generation_embeddings, model.generation_aligner
        self.head, self.gradient_checkpointing = model.generation_head, gradient_checkpointing
        if gradient_checkpointing:
            options = {"use_reentrant": False, "context_fn": checkpoint_contexts}
            self.language_model.gradient_checkpointing_enable(options)
        self.cache_argument = find_cache_argument(self.language_model)
        self.width = int(self.language_model.config.hidden_size)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.head.vision_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.head.vision_head.weight.dtype

    def embed_images(self, tokens: Tensor) -> Tensor:
        """Returns input embeddings `(..., D)` of image tokens `(...)`."""
        return self.aligner(self.embeddings(tokens.to(self.device))).to(self.dtype)

    def predict(
        self, embeds: Tensor, mask: Tensor, positions: Tensor, last: int, cache: DynamicCache | None = None
    ) -> Tensor:
        """Returns logits `(B, last, N)`, float32, of the image tokens behind the `last` of tokens.

        These have embeddings `(B, L, D)` and int64 `positions` `(B, L)`, and are appended to the `cache` of earlier
        ones, if any. `mask`, `(B, 1, L, K)`, is added to the attention logits of K keys, cached ones included.
        """
        if self.gradient_checkpointing:  # transformers does it in training mode alone; dropout is refused
            self.language_model.train(torch.is_grad_enabled())
        cached = {} if cache is None else {self.cache_argument: cache}
        states = self.language_model(
            inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=cache is not None, **cached
        ).last_hidden_state
        return self.head(states[:, -last:]).float()


class TokenDecoding:
    """Predicts the tokens of images one after another; keys and values of earlier ones are cached.

    `logits` are those of the next token, `(B, N)`, float32.
    """

    def __init__(self, transformer: ImageTransformer, sequence: InputSequence) -> None:
        self.transformer, self.cache = transformer, DynamicCache(config=transformer.language_model.config)
        self._bias, self._position = sequence.bias, sequence.lengths
        mask = sequence.attention_mask()
        self.logits = transformer.predict(sequence.embeds, mask, sequence.positions, 1, self.cache)[:, 0]

    def append(self, tokens: Tensor) -> None:
        """Appends image tokens `(B,)`, and predicts those behind them."""
        self._bias = pad(self._bias, (0, 1))
        embeds = self.transformer.embed_images(tokens)[:, None]
        mask, positions = self._bias[:, None, None], self._position[:, None]
        self.logits = self.transformer.predict(embeds, mask, positions, 1, self.cache)[:, 0]
        self._position = self._position + 1
