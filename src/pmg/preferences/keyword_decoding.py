"""Decoding of attributes into keywords: options ranked by likelihood, or generated text."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from pmg.configuration.ranges import Count, CountOrZero, Positive, Seed
from pmg.domain import Keywords, PmgError
from pmg.models.language.context import Context
from pmg.models.language.language_model import LanguageModel
from pmg.preferences.keywords import LIMIT, attribute_scores, merge_keywords, rank, rank_words
from pmg.preferences.scenarios import Attribute

log = logging.getLogger(__name__)

SEPARATORS = re.compile(r"[,;，；、،؛|]|\s+(?=\(?\d{1,2}[.)]\s)")  # the last: numbers of a list on one line
BULLET = re.compile(r"^\s*(?:[-*+•·‣◦–—]+\s+|[•·‣◦]|\(?\d{1,2}[.):](?!\d)\)?\s*|\(?[a-zA-Z][.)]\s+)")
CONJUNCTION = re.compile(r"^(?:and|or|&)\s+", re.IGNORECASE)
DESCRIPTION = re.compile(r"\s[–—]\s.*")
INTRODUCTION = re.compile(r"^.*[:：](?:\s+|$)")
SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[。！？]")
ABBREVIATION = re.compile(r"\b(?:Dr|Mr|Mrs|Ms|St|Jr|Sr|vs|[A-Z])$")
WRAPPING = " \t\"'`*_“”‘’„«»‹›「」『』()[]<>"


def parse_list(text: str, max_words: int = 4, cut: bool = False) -> tuple[str, ...]:
    """Returns the different keywords (whatever their case) of a list with commas, one keyword a line, or numbered.

    Left out are numbering, bullets, quotes, introduction, Markdown's ``**``, descriptions behind a dash, sentences
    around the list, and pieces of more than `max_words` words; hyphens, digits and words of any script are kept. There
    are none where the text holds no list. `cut`: it was cut off at its longest, its last piece may be half a word.
    """
    if cut:
        ends = [match.start() for match in re.finditer(rf"\n|{SEPARATORS.pattern}", text)]
        text = text[: ends[-1]] if ends else text
    found: dict[str, str] = {}
    for piece in _pieces(text):
        if len(piece.split()) <= max_words and any(character.isalnum() for character in piece):
            found.setdefault(piece.casefold(), piece)
    return tuple(found.values())


def _pieces(text: str) -> Iterator[str]:
    """Yields the pieces of all lines that belong to the list."""
    before = None  # the form of the last line that gave something
    for line in text.splitlines():
        if not line.strip():
            before = before and ("ended" if before == "bare" else before)
            continue
        form = "bullet" if BULLET.match(line) else "inline" if SEPARATORS.search(line) else "bare"
        if before is not None and not (before == "open" or form == before != "inline"):
            return
        pieces, ended = _split(line)
        if pieces:
            yield from pieces
            before = "open" if line.rstrip().endswith((",", "，", "、", ";")) else form
        if ended:
            return


def _split(line: str) -> tuple[list[str], bool]:
    """Returns the keywords of one line, and whether a sentence follows them, which ends the list."""
    pieces: list[str] = []
    line = INTRODUCTION.sub("", BULLET.sub("", line.replace("**", ""), count=1), count=1)
    for raw in SEPARATORS.split(line):
        piece, rest = _first_sentence(DESCRIPTION.sub("", BULLET.sub("", raw.strip(), count=1)))
        if piece := " ".join(CONJUNCTION.sub("", piece.strip(WRAPPING)).strip(WRAPPING).split()):
            pieces.append(piece)
        if rest.strip(WRAPPING):
            return pieces, True
    return pieces, False


def _first_sentence(text: str) -> tuple[str, str]:
    """Returns the text up to its first full stop that is not an abbreviation's, and what follows it."""
    for match in SENTENCE_END.finditer(text):
        if not ABBREVIATION.search(text[: match.start()]):
            return text[: match.start()], text[match.end() :]
    return text, ""


class Decoding(Protocol):
    """Decodes attributes of `B` prefilled texts into keywords; its `repr` contains all of its parameters."""

    def __call__(
        self, language_model: LanguageModel, context: Context, attributes: Mapping[str, Attribute]
    ) -> list[Keywords]:
        """Returns B keywords, merged over the attributes."""


@dataclass(frozen=True)
class Choose:
    """Selects the most likely options of each attribute's closed vocabulary; for small language models."""

    per_attribute: Count = 1  # most options of an attribute
    limit: Count = LIMIT  # most keywords over all attributes

    def __call__(
        self, language_model: LanguageModel, context: Context, attributes: Mapping[str, Attribute]
    ) -> list[Keywords]:
        """Scores all options in one pass, by log-probability among those of an attribute; PmgError if it has none."""
        scores = self.score(language_model, context, attributes)
        return [
            merge_keywords(
                [
                    rank(attribute.options, scores[name][row].log_softmax(-1).tolist(), self.per_attribute)
                    for name, attribute in attributes.items()
                ],
                self.limit,
            )
            for row in range(len(context))
        ]

    def score(
        self, language_model: LanguageModel, context: Context, attributes: Mapping[str, Attribute]
    ) -> dict[str, Tensor]:
        """Returns the log-likelihoods of options, float32 `(B, n_options)` by attribute."""
        return attribute_scores(language_model, context, attributes)


@dataclass(frozen=True, kw_only=True)
class ChooseCalibrated(Choose):
    """As `Choose`, by contextually calibrated scores (Zhao et al. 2021).

    An option's score is its log-likelihood less its mean log-likelihood after texts without content: small language
    models prefer some options whatever they read. `references` are such texts, at least one.
    """

    references: Sequence[str]

    def score(
        self, language_model: LanguageModel, context: Context, attributes: Mapping[str, Attribute]
    ) -> dict[str, Tensor]:
        """Returns calibrated scores of options, float32 `(B, n_options)` by attribute; PmgError without references."""
        if not self.references:
            raise PmgError("decoding.references is empty. Give it a text without content, or use decoding=choose")
        without = attribute_scores(language_model, language_model.prefill(self.references), attributes)
        scores = attribute_scores(language_model, context, attributes)
        return {name: scores[name] - without[name].mean(dim=0) for name in scores}


@dataclass(frozen=True)
class Generate:
    """Generates a list of words for each attribute; for language models with billions of parameters.

    Outputs that aren't lists are regenerated with sampling. Words are scored as options are by `Choose`. One more
    question makes one list of all, as in the paper; without it, or an answer, lists are merged by score.
    """

    prompt: str  # text between history and list, with the places ``{question}`` and ``{example}``
    example: str  # text for ``{example}`` in `prompt`, with the place ``{example}``; left out without an example
    per_attribute: Count = 3  # words an attribute
    limit: Count = LIMIT  # words over all attributes
    max_new_tokens: Count = 32  # the longest list
    max_words: Count = 4  # the longest keyword, in words; longer ones are chatter
    retries: CountOrZero = 2  # further tries
    temperature: Positive = 0.8  # of the further tries
    seed: Seed = 0  # of the further tries
    integrate: str | None = None  # text before the last list, with the places ``{words}`` and ``{limit}``; None: none

    def __call__(
        self, language_model: LanguageModel, context: Context, attributes: Mapping[str, Attribute]
    ) -> list[Keywords]:
        """Generates a list for each attribute from the same prefilled texts, and one of these lists."""
        groups = []
        for name, attribute in attributes.items():
            prompt = self.write_prompt(attribute)
            lists = self._lists(language_model, context, prompt, self.per_attribute)
            groups.append(rank_words(language_model, context, prompt, lists, self.per_attribute))
            if empty := sum(not words for words in lists):
                log.warning("attribute '%s': no list of keywords for %d of %d texts", name, empty, len(context))
        rows = list(zip(*groups, strict=True)) if groups else [()] * len(context)
        return [self._merge(language_model, context.select([place]), row) for place, row in enumerate(rows)]

    def _merge(self, language_model: LanguageModel, context: Context, groups: Sequence[Keywords]) -> Keywords:
        """Returns one list of a text's lists: as the language model writes it, else merged by score."""
        if self.integrate and (words := merge_keywords(groups, self.per_attribute * len(groups)).words):
            prompt = self.integrate.format(words=", ".join(words), limit=self.limit)
            whole = self._lists(language_model, context, prompt, self.limit)
            if whole[0]:
                return rank_words(language_model, context, prompt, whole, self.limit)[0]
        return merge_keywords(groups, self.limit)

    def write_prompt(self, attribute: Attribute) -> str:
        """Returns the text between history and list."""
        example = self.example.format(example=attribute.example) if attribute.example else ""
        return self.prompt.format(question=attribute.question, example=example)

    def _lists(
        self, language_model: LanguageModel, context: Context, prompt: str, count: int
    ) -> list[tuple[str, ...]]:  # fmt: skip
        """Generates lists of at most `count` words, greedily first; empty ones are regenerated with sampling."""
        lists: list[tuple[str, ...]] = [()] * len(context)
        longest = self.max_new_tokens * -(-count // self.per_attribute)
        for attempt in range(self.retries + 1):
            missing = [row for row, words in enumerate(lists) if not words]
            if not missing:
                break
            temperature = self.temperature if attempt else 0.0
            texts = language_model.generate(context.select(missing), prompt, longest, temperature, self.seed + attempt)
            for row, text in zip(missing, texts, strict=True):
                cut = len(language_model.token_ids(text)) >= longest
                lists[row] = parse_list(text, self.max_words, cut)[:count]
        return lists
