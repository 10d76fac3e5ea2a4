"""After NaviGen (2606.24196) and Tailored Visions (Chen et al., CVPR 2024): a language model writes the prompt.

NaviGen trains the model that writes, on behaviour codes and by rewards; Tailored Visions rewrites the user's own
prompt by similar earlier ones. Here the frozen language model completes a sentence about the history, the same one for
all users, and its words are added to the target's instead of replacing them. Method `read` has a trained reader's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pmg.configuration.ranges import Count
from pmg.domain import Keywords
from pmg.preferences.keyword_decoding import SENTENCE_END, SEPARATORS, WRAPPING
from pmg.preferences.sources import KeywordSource, Requirements, SourceContext


@dataclass(frozen=True)
class WrittenPrompt(KeywordSource):
    """What the language model writes behind a history; `question` is the text between the two."""

    question: str
    max_new_tokens: Count = 39

    @property
    def requires(self) -> Requirements:
        """The prefilled histories."""
        return Requirements(contexts=True)

    def __call__(self, context: SourceContext) -> Sequence[Keywords]:
        """Returns the parts of each user's text, as many as the text encoder reads; PmgError without `question`."""
        rows = context.extracted.rows([example.profile for example in context.examples])
        read = context.extracted.context.select(rows)
        texts = context.extractor.language_model.generate(read, self.question, self.max_new_tokens)
        fit, cut = context.extractor.budget.fit, context.extractor.budget.cut  # what is too long by itself
        return [fit(Keywords(tuple(filter(None, map(cut, split_parts(text)))))) for text in texts]


def split_parts(text: str) -> tuple[str, ...]:
    """Returns the different parts between separators of a text's first sentence."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    sentence = line[: found.start()] if (found := SENTENCE_END.search(line)) else line
    parts = (" ".join(part.strip(WRAPPING).split()) for part in SEPARATORS.split(sentence))
    return tuple(dict.fromkeys(part for part in parts if part))
