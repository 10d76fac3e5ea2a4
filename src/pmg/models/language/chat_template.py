"""A tokenizer's chat template, cut where the user's message stands: what comes before a history and what behind."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from pmg.domain import PmgError

MARK = "@message@"


@dataclass(frozen=True)
class Frame:
    """Text around what a language model is told.

    Attributes:
        head: before a history; begins a user's message. Empty: none.
        tail: between a question and its answer; ends the message and begins the model's. Empty: none.
    """

    head: str = ""
    tail: str = ""

    def answer(self, text: str) -> str:
        """An answer as it stands behind `tail`: a message doesn't begin with a space."""
        return text.lstrip() if self.tail else text


def chat_frame(tokenizer: PreTrainedTokenizerBase) -> Frame:
    """Cuts the template; without one there is nothing around the text.

    Raises:
        PmgError: the template doesn't show the user's message as it is.
    """
    if not tokenizer.chat_template:
        return Frame()
    message = [{"role": "user", "content": MARK}]
    # Qwen 3 would think aloud before it answers; other templates ignore the switch
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    head, mark, tail = text.partition(MARK)
    if not mark:
        raise PmgError("the tokenizer's chat template hides the user's message; use encoder.language_model.chat=false")
    return Frame(head, tail)
