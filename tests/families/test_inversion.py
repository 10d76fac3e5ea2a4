"""Textual inversion with the text encoders of published families."""

from __future__ import annotations

import torch

from checkpoints import qwen3
from inversions import start_of
from pmg.families.flux1 import Flux1TextEncoder
from pmg.families.tiny_sd3 import _tiny_clip, _tiny_t5
from pmg.families.z_image import ZImageTextEncoder
from pmg.models.language.chat_template import split_chat_template


def test_tokens_start_as_the_word_and_not_as_what_surrounds_it():
    """Behind the word is a last token, or around it a language model's template."""
    word, (model, tokenizer) = "dog face", qwen3(2)
    t5 = Flux1TextEncoder(_tiny_clip(16, 8), _tiny_t5(16))
    torch.testing.assert_close(start_of(t5, word), t5.encode([word]).tokens[0, : len(t5.token_ids(word)) - 1].mean(0))

    template = split_chat_template(tokenizer, thinking=True).wrap
    chatting = ZImageTextEncoder(model.model, tokenizer, 96, template, (-2,))
    told, empty = (chatting.encode([text], padded=False).tokens[0] for text in (word, ""))
    count = len(tokenizer(word).input_ids)
    before = int((told[: len(empty)] - empty).norm(dim=1).gt(1e-4).nonzero()[0])  # tokens see those before them alone
    assert before > 1
    torch.testing.assert_close(start_of(chatting, word), told[before : before + count].mean(0))
