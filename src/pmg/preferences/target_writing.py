"""What an image shows, in a language model's own words; used for models that pass a probe."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pmg.configuration.ranges import Count, Fraction
from pmg.domain import PmgError
from pmg.models.language.context import Context
from pmg.models.language.language_model import LanguageModel

END = re.compile(r"[.!?*\"\n]")  # behind the written target
WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class TargetWriting:
    """Writes what an image shows that answers a conversation."""

    question: str  # text between conversation and answer
    probes: Mapping[str, tuple[str, ...]]  # messages with the words of which an answer has to have one: the probe
    least: Fraction  # share of the probe that a language model has to pass before its answers are used
    max_words: Count  # of an answer; longer ones are not used
    max_new_tokens: Count  # of the generation; what hasn't ended then is not used

    def write(self, language_model: LanguageModel, context: Context) -> list[str]:
        """Returns an answer to each of B prefilled conversations; an empty text where there is none to use."""
        texts = language_model.generate(context, self.question, self.max_new_tokens)
        return [self.parse(text, len(language_model.token_ids(text)) >= self.max_new_tokens) for text in texts]

    def parse(self, text: str, cut: bool) -> str:
        """Returns the answer that a generated text begins with, or an empty one.

        In a text that was `cut` at `max_new_tokens`, an answer without a mark or a line break after it is incomplete.
        """
        answer, *rest = END.split(text.lstrip(), maxsplit=1)
        short = len(answer.split()) <= self.max_words
        return answer.strip(" ,;:") if short and (rest or not cut) and WORD.search(answer) else ""

    def share_passed(self, answers: Sequence[str]) -> float:
        """Returns the share of answers to the probe, in its order, that have one of the words."""
        found = [set(WORD.findall(answer.lower())) for answer in answers]
        passed = [bool(words.intersection(own)) for words, own in zip(found, self.probes.values(), strict=True)]
        return sum(passed) / len(passed)


def build_target_writing(
    question: str, probes: Sequence[Mapping[str, Any]], least: Fraction, max_words: Count, max_new_tokens: Count
) -> TargetWriting:
    """Builds it from a config's plain values; PmgError if a probe has other keys than ``message`` and ``words``."""
    for probe in probes:
        if {*probe} != {"message", "words"}:
            raise PmgError(f"target_writing.probes need a message and words each; one has {', '.join(probe)}")
    accepted = {probe["message"]: tuple(probe["words"]) for probe in probes}
    return TargetWriting(question, accepted, least, max_words, max_new_tokens)
