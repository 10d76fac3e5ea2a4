"""The vocabulary of wishes: what people call attributes and options, and which word a misspelt one is.

Phrases are tuples of words. What options a phrase asks for is a regular expression that whole options match.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from rapidfuzz.distance import OSA
from rapidfuzz.process import extractOne

from pmg.domain import PmgError

TOKEN = re.compile(r"[a-zA-Z0-9À-ɏ]+(?:['-][a-zA-Z0-9À-ɏ]+)*|[.!?;:,()\n–—]")
COLOUR = "{colour}"  # place of a colour's name
Phrase = tuple[str, ...]


@dataclass(frozen=True)
class AttributeWords:
    """What people call an attribute and its options.

    Expressions are regular expressions that whole options match; a word may have ``{colour}`` in it and in its
    expression, whose place each of the colours' names takes.
    """

    names: Sequence[str]  # of the attribute: background, backdrop
    words: Mapping[str, Sequence[str]]  # by expression of options, what people say beside a name of the attribute
    alone: Mapping[str, Sequence[str]] = field(default_factory=dict)  # the same without a name of the attribute
    none: str = ""  # expression of what "no NAME" asks for; empty: nothing
    some: str = ""  # expression of what a NAME asks for without a further word; empty: nothing
    usual: str = ""  # expression of what is meant among options that would do; empty: any of them

    def check(self, name: str) -> None:
        """Raises PmgError if an expression can't be read."""
        for text in (*self.words, *self.alone, self.none, self.some, self.usual):
            try:
                re.compile(text.replace(COLOUR, "x"))
            except re.error as error:
                raise PmgError(f"wishes.attributes.{name}: '{text}' is no regular expression: {error}") from None


@dataclass(frozen=True)
class Meaning:
    """What a phrase means."""

    kind: str  # ``name`` of an attribute, ``word``; or a cue: ``not``, ``behind``, ``keep``, ``before``
    options: Mapping[str, str] = field(default_factory=dict)  # by attribute, beside its name: expression of options
    alone: Mapping[str, str] = field(default_factory=dict)  # the same without a name


def build_vocabulary(
    attributes: Mapping[str, AttributeWords], colours: Mapping[str, Sequence[str]], cues: Mapping[str, Sequence[str]]
) -> dict[Phrase, Meaning]:
    """Returns the meaning of each phrase; `cues` are phrases by their kind, see `Meaning`."""
    found: dict[Phrase, Meaning] = {}
    for phrase, new in _phrases(attributes, colours, cues):
        old = found.get(phrase)
        if old is not None and old.kind == new.kind:
            new = Meaning(new.kind, {**old.options, **new.options}, {**old.alone, **new.alone})
        found[phrase] = new
    return found


def _phrases(
    attributes: Mapping[str, AttributeWords], colours: Mapping[str, Sequence[str]], cues: Mapping[str, Sequence[str]]
) -> Iterator[tuple[Phrase, Meaning]]:
    """Yields phrases with a meaning; several of one phrase belong together."""
    for name, words in attributes.items():
        for text in words.names:
            yield split_words(text), Meaning("name", {name: ""})
        for expression, text in _expand(words.words, colours):
            yield split_words(text), Meaning("word", {name: expression})
        for expression, text in _expand(words.alone, colours):
            yield split_words(text), Meaning("word", {}, {name: expression})
    for kind, texts in cues.items():
        for text in texts:
            yield split_words(text), Meaning(kind)


def _expand(words: Mapping[str, Sequence[str]], colours: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Yields expressions and phrases, one for each name of a colour where they have its place."""
    for expression, texts in words.items():
        for text in texts:
            if COLOUR not in text:
                yield expression, text
                continue
            for colour, called in colours.items():
                for word in (colour, *called):
                    yield expression.replace(COLOUR, colour), text.replace(COLOUR, word)


def split_words(text: str) -> Phrase:
    """Returns the words and punctuation marks of a text, in lower case."""
    return tuple(TOKEN.findall(text.lower().replace("’", "'")))


def build_speller(
    vocabulary: Mapping[Phrase, Meaning], is_whole: Callable[[str], bool], letters: int
) -> Callable[[str], str]:
    """Returns a function from a word to the nearest one of the vocabulary, or to itself.

    It changes words for which `is_whole` is false: those that a text encoder splits into pieces, as it does with
    misspelt ones. Of each `letters` letters one may be wrong: left out, added, another, or two exchanged.
    """
    known = sorted({word for phrase in vocabulary for word in phrase if len(word) >= letters})

    @cache
    def correct(word: str) -> str:
        """Returns the word as it is meant."""
        if len(word) < letters or not word.isalpha() or word in known or is_whole(word):
            return word
        found = extractOne(word, known, scorer=OSA.distance, score_cutoff=len(word) // letters)
        return word if found is None else str(found[0])

    return correct
