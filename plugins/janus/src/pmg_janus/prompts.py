"""Prompts of a multimodal language model: their tokens, as input embeddings, inside the chat template."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from pmg.domain import PmgError
from pmg.models.diffusion.conditioning import Block, TextBlock
from pmg.models.diffusion.text_encoder import FrozenTextEncoder, as_text
from pmg.models.language.chat_template import ChatTemplate

SEPARATOR = ", "  # before words behind the prompt
PROBE = "red apple"


@dataclass(frozen=True)
class PromptFrame:
    """Tokens around a prompt and the preference behind it."""

    suffix: tuple[int, ...]  # follows the preference: it ends the user's message and begins the model's
    start: int  # begins an image
    padding: int | None  # takes the place of each token of a dropped prompt; None: nothing does

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, template: ChatTemplate) -> PromptFrame:
        """Returns the frame of a tokenizer's chat template.

        PmgError if a special token is missing, or the template's end can't be tokenized by itself.
        """
        start = tokenizer.get_vocab().get(getattr(tokenizer, "boi_token", None))
        numbers = {"bos_token": tokenizer.bos_token_id, "pad_token": tokenizer.pad_token_id, "boi_token": start}
        missing = [name for name, number in numbers.items() if number is None]
        if missing:
            raise PmgError(f"the tokenizer has no {', '.join(missing)}. Use the one that the model was trained with.")
        suffix = tokenizer(template.assistant_prefix, add_special_tokens=False).input_ids
        whole, prompt = (
            tokenizer(template.user_prefix + text).input_ids for text in (PROBE + template.assistant_prefix, PROBE)
        )
        if whole != prompt + suffix or tokenizer("").input_ids != [tokenizer.bos_token_id]:
            raise PmgError(
                "the tokenizer splits a prompt inside the chat template in another way than alone, or doesn't begin "
                f"it with {tokenizer.bos_token}. Use the one that the model was trained with."
            )
        return cls(tuple(suffix), int(numbers["boi_token"]), int(numbers["pad_token"]))


class PromptEmbeddings(FrozenTextEncoder):
    """Input embeddings of prompts; the pooled vector is their mean.

    A prompt begins with the first token and the start of the chat template. The empty one is the first token alone.
    Unpadded texts, which follow a prompt, are words behind a comma. `embedding` is the language model's; `max_length`
    counts the tokens of `prefix`, the start of the template, too.
    """

    pads_keywords = False

    def __init__(
        self, embedding: nn.Embedding, tokenizer: PreTrainedTokenizerBase, max_length: int, prefix: str
    ) -> None:
        super().__init__(max_length, tokenizer)
        self.embedding, self.prefix, self.width = embedding, prefix, embedding.embedding_dim

    def token_ids(self, text: str) -> list[int]:
        """Returns the tokens of a prompt, with the start of the template."""
        return list(self.tokenizer(self.prefix + text).input_ids)

    def _encode(self, texts: list[str]) -> TextBlock:
        self.check_lengths(texts)
        return self._embed([self.tokenizer(self.prefix + text if text else "").input_ids for text in texts])

    def _encode_unpadded(self, texts: list[str]) -> TextBlock:
        self.check_lengths(texts)
        words = [SEPARATOR + text if text else "" for text in texts]
        return self._embed([self.tokenizer(text, add_special_tokens=False).input_ids for text in words])

    def _embed(self, rows: list[list[int]]) -> TextBlock:
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        length = max(1, int(lengths.max()))
        ids = pad_sequence([torch.tensor(row, dtype=torch.long) for row in [*rows, [0] * length]], batch_first=True)
        tokens: Tensor = self.embedding(ids[:-1].to(self.device)).float()
        return as_text(Block(tokens, torch.arange(length, device=self.device) < lengths[:, None]))
