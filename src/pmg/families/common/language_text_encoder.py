"""A language model as the text encoder of a transformer: hidden states of a text inside a chat template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pmg.models.diffusion.conditioning import Block, TextBlock
from pmg.models.diffusion.sequences import order_visible_first
from pmg.models.diffusion.text_encoder import FrozenTextEncoder, as_text


class LanguageTextEncoder(FrozenTextEncoder):
    """Hidden states of chosen layers, concatenated along their width; the pooled vector is their mean.

    `template` returns a text inside the chat template; `max_length` counts its tokens, too, but for `skipped` ones at
    its beginning, which are read but not returned. `layers` are indices into the model's hidden states, e.g. -1: the
    last. The model has no head; `head` is the language model's, which a model
    that shares the weights generates text with.
    """

    texts_at_once: ClassVar[int] = 8  # hidden states of all layers are in memory
    pads_keywords = False

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int,
        template: Callable[[str], str], layers: Sequence[int], skipped: int = 0, *, head: nn.Module | None = None,
    ) -> None:  # fmt: skip
        super().__init__(max_length, tokenizer)
        self._head = (head,)  # no submodule: it is neither moved nor counted with the encoder
        self.model = model.requires_grad_(False).eval()
        self.template, self.layers, self.skipped = template, tuple(layers), skipped
        self.width = int(model.config.get_text_config().hidden_size) * len(self.layers)

    @property
    def head(self) -> nn.Module | None:
        """Maps last hidden states to logits; None: there is none."""
        return self._head[0]

    def token_ids(self, text: str) -> list[int]:
        """Returns the tokens of a text inside the template, without `skipped` ones."""
        return list(self.tokenizer(self.template(text))["input_ids"])[self.skipped :]

    def states(self, texts: Sequence[str], length: int | None = None) -> Block:
        """Returns hidden states `(B, L, D)`, float32, visible ones first.

        Texts are padded to `length`; None: to the longest. PmgError if a text is longer than `max_length`.
        """
        self.check_lengths(texts)
        padding = {"padding": True} if length is None else {"padding": "max_length", "max_length": length}
        batch = self.tokenizer([self.template(text) for text in texts], return_tensors="pt", **padding)
        ids, mask = (batch[name].to(self.device) for name in ("input_ids", "attention_mask"))
        if length is not None:  # padding is read by the generator, too
            return Block(self._hidden_states(mask, input_ids=ids), mask.bool())
        return self.read_states(mask, input_ids=ids)

    def read_states(self, mask: Tensor, **inputs: Tensor) -> Block:
        """Returns hidden states `(B, L, D)`, float32, visible ones first, without `skipped` ones.

        The int64 `mask` `(B, S)` is 1 at tokens that are no padding.
        """
        order = order_visible_first(mask.bool())
        tokens = self._hidden_states(mask, **inputs).take_along_dim(order[..., None], 1)
        return Block(tokens[:, self.skipped :], mask.bool().take_along_dim(order, 1)[:, self.skipped :])

    def _hidden_states(self, mask: Tensor, **inputs: Tensor) -> Tensor:
        states = self.model(attention_mask=mask, output_hidden_states=True, use_cache=False, **inputs)
        return torch.cat([states.hidden_states[layer] for layer in self.layers], dim=-1).float()

    def _encode(self, texts: list[str]) -> TextBlock:
        return as_text(self.states(texts))
