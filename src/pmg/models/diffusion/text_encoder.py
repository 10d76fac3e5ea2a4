"""Frozen text encoders of a generator: texts to blocks of a condition."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from pmg.configuration.ranges import Count
from pmg.domain import PmgError
from pmg.models.diffusion.conditioning import Block, TextBlock
from pmg.models.diffusion.interfaces import ALLOW_MORE, PromptEncoder
from pmg.models.loading.checkpoints import load_with_tokenizer
from pmg.models.loading.device import device_of
from pmg.models.loading.weight_sources import Frozen, loading, resolve_source

WORDS = 64  # tokens of unpadded keywords, for forecasts


class TextSizes(NamedTuple):
    """Sizes of the longest encoded texts: tokens of a target and of keywords, widths of a token and pooled text."""

    target: int
    keywords: int
    width: int
    pooled: int


class FrozenTextEncoder(Frozen, ABC):
    """Encodes each different text once, in batches, up to `max_length` tokens; subclasses implement `_encode`."""

    texts_at_once: ClassVar[int] = 256
    pads_keywords: ClassVar[bool] = True  # to `max_length`; False: forecasts assume `WORDS` tokens
    width: int
    """Width `D` of the tokens."""

    def __init__(self, max_length: int, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self.max_length, self.tokenizer = max_length, tokenizer

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return device_of(self)

    def token_ids(self, text: str) -> list[int]:
        """Returns the tokens of a text, special tokens included, whose vectors are the first ones of `encode`."""
        return list(self.tokenizer(text)["input_ids"])

    def count_tokens(self, text: str) -> int:
        """Returns the length of a text in tokens, special tokens included."""
        return len(self.token_ids(text))

    def longest(self) -> TextSizes:
        """Returns the sizes of full targets, and of keywords as they are padded, that forecasts assume."""
        keywords = self.max_length if self.pads_keywords else min(WORDS, self.max_length)
        return TextSizes(self.max_length, keywords, self.width, self.width)

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch_size: int | None = None, *, padded: bool = True) -> TextBlock:
        """Returns texts as a block, see `PromptEncoder.encode`, by `batch_size` or `texts_at_once` in one pass."""
        unique = list(dict.fromkeys(texts))
        encode, size = self._encode if padded else self._encode_unpadded, batch_size or self.texts_at_once
        parts = [encode(unique[i : i + size]) for i in range(0, len(unique), size)]
        index = {text: row for row, text in enumerate(unique)}
        return concatenate_texts(parts).to("cpu")[torch.tensor([index[text] for text in texts])]

    def check_lengths(self, texts: Sequence[str]) -> None:
        """Checks that no text is longer than `max_length`, else raises PmgError: none is truncated."""
        longest = max(texts, key=self.count_tokens)
        if self.count_tokens(longest) > self.max_length:
            raise PmgError(
                f"the text '{longest}' has {self.count_tokens(longest)} tokens, the text encoder reads "
                f"{self.max_length}; shorten it, or {ALLOW_MORE}"
            )

    @abstractmethod
    def _encode(self, texts: list[str]) -> TextBlock:
        """Returns different texts as a block, on the device of the weights."""

    def _encode_unpadded(self, texts: list[str]) -> TextBlock:
        """Returns what `_encode` does, without visible padding where the family of the generator allows that."""
        return self._encode(texts)


def concatenate_texts(parts: Sequence[TextBlock]) -> TextBlock:
    """Returns the rows of blocks as one block, padded to the longest."""
    length = max(part.tokens.shape[1] for part in parts)
    columns = zip(*((part.tokens, part.mask, part.pooled) for part in (p.padded(length) for p in parts)), strict=True)
    return TextBlock(*(torch.cat(column) for column in columns))


class TextEncoder(FrozenTextEncoder):
    """One transformers text model; the pooled vector is the mean of the tokens at length `sqrt(D)`."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int = 32) -> None:
        super().__init__(max_length, tokenizer)
        self.model, self.width = model.requires_grad_(False).eval(), model.config.get_text_config().hidden_size

    @classmethod
    def from_source(cls, source: str, max_length: Count = 32) -> TextEncoder:
        """Loads model and tokenizer from a hub id, folder or package; PmgError if they are missing or damaged."""
        path = resolve_source(source)
        with loading("a text encoder", path):
            return cls(*load_with_tokenizer(AutoModel, path, unused=("pooler.",), dtype=torch.float32), max_length)

    def _encode(self, texts: list[str]) -> TextBlock:
        self.check_lengths(texts)
        batch = self.tokenizer(texts, padding=True, return_tensors="pt").to(self.model.device)
        tokens = self.model(**batch).last_hidden_state
        mask = batch["attention_mask"].bool()
        return TextBlock(tokens * mask[..., None], mask, pool(tokens, mask))


class LazyTextEncodings:
    """Keyword texts that are encoded when rows of them are read, where their `TextBlock` would not fit memory."""

    def __init__(self, encoder: PromptEncoder, texts: Sequence[str]) -> None:
        self.encoder, self.texts = encoder, list(texts)

    def __getitem__(self, rows: Tensor) -> TextBlock:
        """Returns the block of `rows`, computed in the encoder's own precision, as blocks in memory are."""
        with torch.autocast(self.encoder.device.type, enabled=False):
            texts = [self.texts[row] for row in rows.tolist()]
            return hide_empty(self.encoder.encode(texts, padded=False), texts)


def hide_empty(block: TextBlock, texts: Sequence[str]) -> TextBlock:
    """Returns the keyword block of B texts, hidden where a text is empty, so that no keywords change nothing.

    An encoder's special tokens (the start and the end of an empty text) would condition the image otherwise.
    """
    return block.masked(torch.tensor([bool(text) for text in texts]))


def pool(tokens: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean of the visible tokens, scaled to length `sqrt(D)`: elements have unit variance; `(B, D)`."""
    total = (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
    return nn.functional.normalize(total, dim=-1) * tokens.shape[-1] ** 0.5


def as_text(block: Block, mask: Tensor | None = None) -> TextBlock:
    """Returns a block with the mean of its visible tokens, or of those in `mask` `(B, L)`, as pooled vectors."""
    hidden = ~block.mask[..., None]
    pooled = pool(block.tokens, block.mask if mask is None else mask)
    return TextBlock(block.tokens.masked_fill(hidden, 0.0), block.mask, pooled)


class TextTower(nn.Module):
    """A frozen text model with its tokenizer, one of a generator's: the states of a layer, and a pooled vector.

    `layer` is an index into the model's hidden states, e.g. -2: the last but one; None: its normalised last states.
    `pooled` names the model's output that pools a text, e.g. ``text_embeds``; None: it has none. If `padded`, texts
    are padded to `max_length`, special tokens included, and all tokens are visible, as most published denoisers were
    trained; else to the longest text, and padding is hidden.
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

        Texts are padded to `max_length` if `padded`; None: as in the constructor. PmgError if one is longer.
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
