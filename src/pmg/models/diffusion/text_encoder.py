"""The generator's frozen text encoder: texts to blocks of a condition."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from pmg.configuration.ranges import Count
from pmg.domain import PmgError
from pmg.models.diffusion.conditioning import Block
from pmg.models.loading.checkpoints import load_with_tokenizer
from pmg.models.loading.weight_sources import loading, resolve_source


class TextEncoder(nn.Module):
    """A frozen transformers text model.

    Args:
        model: gives ``last_hidden_state``.
        tokenizer: its tokenizer.
        max_length: longest text, in tokens, special tokens included.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int = 32) -> None:
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        self.max_length = max_length

    @classmethod
    def from_source(cls, source: str, max_length: Count = 32) -> TextEncoder:
        """Loads model and tokenizer from a hub id, a folder or an installed package.

        Raises:
            PmgError: the source is missing or damaged.
        """
        path = resolve_source(source)
        with loading("a text encoder", path):
            return cls(*load_with_tokenizer(AutoModel, path, unused=("pooler.",)), max_length)

    def train(self, mode: bool = True) -> TextEncoder:
        """Stays in evaluation mode: the encoder is frozen."""
        return super().train(False)

    @property
    def width(self) -> int:
        """Width `D` of its tokens."""
        return self.model.config.hidden_size

    def count_tokens(self, text: str) -> int:
        """Length of a text in tokens, special tokens included."""
        return len(self.tokenizer(text)["input_ids"])

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch_size: int = 256) -> Block:
        """Encodes texts, each different text once.

        Returns:
            tokens `(B, L, D)` with `L` the longest text, and the mean of a text's tokens at length `sqrt(D)`
            as its pooled vector `(B, D)`; on the processor, wherever the model stands.

        Raises:
            PmgError: a text is longer than `max_length`; nothing is cut silently.
        """
        unique = list(dict.fromkeys(texts))
        parts = [self._encode(unique[i : i + batch_size]) for i in range(0, len(unique), batch_size)]
        length = max(part.tokens.shape[1] for part in parts)
        parts = [part.padded(length) for part in parts]
        whole = Block(*(torch.cat([getattr(p, name) for p in parts]) for name in ("tokens", "mask", "pooled")))
        index = {text: row for row, text in enumerate(unique)}
        return whole.to("cpu")[torch.tensor([index[text] for text in texts])]

    def check_lengths(self, texts: Sequence[str]) -> None:
        """Refuses texts that would have to be cut.

        Raises:
            PmgError: a text is longer than `max_length`.
        """
        longest = max(texts, key=self.count_tokens)
        if self.count_tokens(longest) > self.max_length:
            raise PmgError(
                f"the text '{longest}' has {self.count_tokens(longest)} tokens, the text encoder reads "
                f"{self.max_length}; shorten it, or raise text_encoder.max_length where the encoder has that key"
            )

    def _encode(self, texts: list[str]) -> Block:
        self.check_lengths(texts)
        batch = self.tokenizer(texts, padding=True, return_tensors="pt").to(self.model.device)
        tokens = self.model(**batch).last_hidden_state
        mask = batch["attention_mask"].bool()
        return Block(tokens * mask[..., None], mask, pool(tokens, mask))


class UnkeptTexts:
    """Texts that are encoded whenever they are asked for: stands where a `Block` of very many would take memory.

    Args:
        encoder: encodes them.
        texts: B texts.
    """

    def __init__(self, encoder: TextEncoder, texts: Sequence[str]) -> None:
        self.encoder, self.texts = encoder, list(texts)

    def __getitem__(self, rows: Tensor) -> Block:
        """Those of `rows`, in the encoder's own precision, as those that are kept."""
        with torch.autocast(self.encoder.model.device.type, enabled=False):
            return self.encoder.encode([self.texts[row] for row in rows.tolist()])


def pool(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean of the tokens that count, scaled to length `sqrt(D)` so that an element has unit variance; `(B, D)`."""
    total = (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
    return nn.functional.normalize(total, dim=-1) * tokens.shape[-1] ** 0.5
