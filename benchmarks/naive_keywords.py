"""Keywords as one would ask for them first: a `generate` call for each attribute of each user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


@torch.no_grad()
def ask_each(
    model: Any, tokenizer: Any, histories: Sequence[str], questions: Sequence[str], max_new_tokens: int
) -> list[list[str]]:
    """Answers every question about every history, which is read again each time.

    Args:
        model: causal language model of transformers.
        tokenizer: its tokenizer.
        histories: one a user.
        questions: what follows a history, one an attribute.
        max_new_tokens: the longest answer.

    Returns:
        The answers, greedily decoded.
    """
    answers = []
    for history in histories:
        answers.append([])
        for question in questions:
            prompt = tokenizer(history + question, return_tensors="pt")
            written = model.generate(**prompt, max_new_tokens=max_new_tokens, do_sample=False)
            new = written[0, prompt.input_ids.shape[1] :]
            answers[-1].append(tokenizer.decode(new, skip_special_tokens=True))
    return answers
