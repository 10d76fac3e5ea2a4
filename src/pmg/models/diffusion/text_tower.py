"""One text model of a generator that has several: the states of a chosen layer, and a pooled vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pmg.domain import PmgError
from pmg.models.diffusion.conditioning import Block


class TextTower(nn.Module):
    """A frozen text model with its tokenizer.

    Args:
        model: of transformers.
        tokenizer: its tokenizer.
        max_length: longest text, in tokens, special tokens included.
        layer: index into the model's hidden states, e.g. -2: the last but one; None: its normalised last states.
        pooled: name of the model's output that pools a text, e.g. ``text_embeds``; None: it has none.
        padded: whether texts are padded to `max_length` and all tokens are visible, as most published denoisers
            were trained; False: to the longest text, and padding is hidden.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int, *,
        layer: int | None = None, pooled: str | None = None, padded: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        self.tokenizer, self.max_length = tokenizer, max_length
        self.layer, self.pooled, self.padded = layer, pooled, padded

    @property
    def width(self) -> int:
        """Width of the hidden states."""
        return self.model.config.hidden_size

    @property
    def pooled_width(self) -> int:
        """Width of the pooled vectors."""
        config = self.model.config
        return config.projection_dim if self.pooled == "text_embeds" else config.hidden_size

    def count_tokens(self, text: str) -> int:
        """Returns the length of a text in tokens, special tokens included."""
        return len(self.tokenizer(text)["input_ids"])

    def forward(self, texts: Sequence[str], padded: bool | None = None) -> Block:
        """Returns hidden states `(B, L, width)`, their mask, and pooled vectors or None, in float32.

        Texts are padded to `max_length` if `padded`; None: as in the constructor. PmgError if a text is longer than
        `max_length`.
        """
        padded = self.padded if padded is None else padded
        padding = {"padding": "max_length", "max_length": self.max_length} if padded else {"padding": True}
        batch = self.tokenizer(list(texts), return_tensors="pt", **padding).to(self.model.device)
        if batch["input_ids"].shape[1] > self.max_length:
            longest = max(texts, key=self.count_tokens)
            raise PmgError(
                f"the text '{longest}' has {self.count_tokens(longest)} tokens, the text encoder reads "
                f"{self.max_length}. Shorten it."
            )
        mask = torch.ones_like(batch["attention_mask"]) if padded else batch["attention_mask"]
        out = self.model(batch["input_ids"], attention_mask=None if padded else mask, output_hidden_states=True)
        tokens = out.last_hidden_state if self.layer is None else out.hidden_states[self.layer]
        pooled = None if self.pooled is None else getattr(out, self.pooled).float()
        return Block(tokens.float() * mask[..., None], mask.bool(), pooled)
