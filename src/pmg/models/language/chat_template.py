"""A tokenizer's chat template as two texts: what precedes the user's message, and what follows it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase
from transformers.utils import cached_file

from pmg.domain import PmgError

MARK = "@message@"


@dataclass(frozen=True)
class ChatTemplate:
    """Text around a user's message.

    Attributes:
        user_prefix: precedes a history; begins the user's message. Empty: none.
        assistant_prefix: between question and answer, or between history and multimodal tokens; ends the user's
            message and begins the model's. Empty: none.
    """

    user_prefix: str = ""
    assistant_prefix: str = ""

    def format_answer(self, text: str) -> str:
        """Returns an answer as it follows `assistant_prefix`: a message doesn't begin with a space."""
        return text.lstrip() if self.assistant_prefix else text


NO_TEMPLATE = ChatTemplate()


def split_chat_template(tokenizer: PreTrainedTokenizerBase, in_parts: bool = False) -> ChatTemplate:
    """Returns the two parts of the tokenizer's template; both empty where it has none.

    The template takes a message as a text, or `in_parts`, as a list of texts and pictures.

    Raises:
        PmgError: the template changes the user's message.
    """
    if not tokenizer.chat_template:
        return NO_TEMPLATE
    content = [{"type": "text", "text": MARK}] if in_parts else MARK
    message = [{"role": "user", "content": content}]
    # Qwen 3 writes its reasoning first by default; other templates ignore the switch
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    before, mark, after = text.partition(MARK)
    if not mark:
        raise PmgError("the tokenizer's chat template changes the user's message. Set language_model.chat=false")
    return ChatTemplate(before, after)


def load_chat_template(tokenizer: PreTrainedTokenizerBase, path: str) -> ChatTemplate:
    """Returns the template of a checkpoint that takes messages in parts, see `split_chat_template`.

    Older checkpoints have it in a file beside the tokenizer, which then gets it.
    """
    if not tokenizer.chat_template:
        found = cached_file(path, "chat_template.json", _raise_exceptions_for_missing_entries=False)
        tokenizer.chat_template = json.loads(Path(found).read_text())["chat_template"] if found else None
    return split_chat_template(tokenizer, in_parts=True)
