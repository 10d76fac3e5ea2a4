"""A tokenizer's chat template as two texts: what precedes the user's message, and what follows it."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, NoReturn, Self

from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

from pmg.domain import PmgError

MARK, ANSWER = "@message@", "@answer@"
SECONDS, MEMORY, LONGEST = 5, 2**28, 2**20  # of processor time, bytes, and bytes of text that a template may take


class OneDay(datetime):
    """The day that templates write, each day the same: else results would change with it."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        """Returns the day."""
        return cls(2024, 7, 26, tzinfo=tz)


@dataclass(frozen=True)
class ChatTemplate:
    """Text around a user's message.

    `user_prefix` precedes a history. `assistant_prefix`, between question and answer or between history and multimodal
    tokens, ends the user's message and begins the model's. Either may be empty. `answer_space` precedes an answer
    there, in templates such as ``Assistant: …``.
    """

    user_prefix: str = ""
    assistant_prefix: str = ""
    answer_space: str = ""

    def format_answer(self, text: str) -> str:
        """Returns an answer as it follows `assistant_prefix`."""
        return f"{self.answer_space}{text.lstrip()}" if self.assistant_prefix else text

    def wrap(self, text: str) -> str:
        """Returns a text as a user's message; PmgError if there is no template."""
        if self == NO_TEMPLATE:
            raise PmgError("the tokenizer has no chat template. Load the whole checkpoint again.")
        return f"{self.user_prefix}{text}{self.assistant_prefix}"


NO_TEMPLATE = ChatTemplate()


def split_chat_template(
    tokenizer: PreTrainedTokenizerBase, in_parts: bool = False, thinking: bool = False
) -> ChatTemplate:
    """Returns the two parts of the tokenizer's template; both empty where it has none.

    `in_parts`: the template takes a message as a list of texts and pictures, not as a text; `thinking`: an answer may
    begin with reasoning, which Qwen 3 writes; other templates ignore it. PmgError if the template fails, takes too
    long, or changes the user's message.
    """
    if not tokenizer.chat_template:
        return NO_TEMPLATE
    turns = [
        {"role": role, "content": [{"type": "text", "text": text}] if in_parts else text}
        for role, text in (("user", MARK), ("assistant", ANSWER))
    ]
    text, answered = render_chat_template(tokenizer, turns[:1], thinking), ""
    before, mark, after = text.partition(MARK)
    if not mark:
        raise PmgError("the tokenizer's chat template changes the user's message. Set language_model.chat=false")
    spaced = str(tokenizer.tokenize("a")[0]).startswith("\N{LOWER ONE EIGHTH BLOCK}")  # by the tokenizer itself
    if not spaced:
        with contextlib.suppress(PmgError):
            answered = render_chat_template(tokenizer, turns, thinking)
    gap = answered.removeprefix(text).partition(ANSWER)[0] if answered.startswith(text) else ""
    return ChatTemplate(before, after, gap if gap.isspace() else "")


def render_chat_template(owner: Any, messages: Sequence[Mapping[str, Any]], thinking: bool = False) -> str:
    """Returns messages in a chat template, with the beginning of an answer.

    A template is a program that comes with a checkpoint. It runs in a child process whose time and memory are limited.
    Messages have ``role`` and ``content``; `owner` is a tokenizer or processor of transformers. PmgError if the
    template fails, takes too long, or writes too much.
    """
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        _render_and_exit(owner, messages, thinking, writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        kind, text = pipe.read(1), pipe.read(LONGEST + 1).decode(errors="replace")
    os.waitpid(child, 0)
    if kind == b"+" and len(text) <= LONGEST:
        return text
    reason = " ".join(text[:160].split()) if kind == b"!" else "it takes too much time or memory"
    raise PmgError(f"the chat template of the tokenizer can't be used ({reason}). Set language_model.chat=false")


def _render_and_exit(owner: Any, messages: Sequence[Mapping[str, Any]], thinking: bool, writing: int) -> NoReturn:
    """Writes ``+`` and the text, or ``!`` and an error, into a pipe, and ends the process."""
    with contextlib.suppress(BaseException):  # the parent sees that nothing was written
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        with contextlib.suppress(OSError):  # /proc: Linux alone
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
        try:
            options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": thinking}
            chat_template_utils.datetime = OneDay  # of this process alone
            said = "+" + str(owner.apply_chat_template(messages, **options))
        except Exception as error:  # templates raise what they like
            said = f"!{type(error).__name__}: {error}"
        with open(writing, "wb") as pipe:
            pipe.write(said.encode()[: LONGEST + 2])
    os._exit(0)
