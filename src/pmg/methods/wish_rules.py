"""Reads wishes by a rule: the words of options and their synonyms, with negation, and nothing that is trained."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pmg.configuration.ranges import Count
from pmg.domain import PmgError
from pmg.methods.message_language import is_english
from pmg.methods.wish_vocabulary import (
    AttributeWords,
    Meaning,
    Phrase,
    build_speller,
    build_vocabulary,
    split_words,
)
from pmg.models.diffusion.interfaces import PromptEncoder
from pmg.preferences.scenarios import Attribute
from pmg.preferences.wishes import Wishes


@dataclass(frozen=True)
class Mention:
    """A phrase of a part of a sentence: its words from `start` up to, without, `end`."""

    start: int
    end: int
    meaning: Meaning


@dataclass
class Change:
    """What one message changes: expressions of options that are wanted and that aren't, by attribute."""

    wanted: dict[str, list[str]] = field(default_factory=dict)
    unwanted: dict[str, list[str]] = field(default_factory=dict)
    before: set[str] = field(default_factory=set)  # attributes whose wishes are taken back
    takes_back: bool = False  # whether it takes something back, perhaps without naming it
    keeps: set[str] = field(default_factory=set)  # attributes that it asks to keep

    @property
    def spoken_of(self) -> list[str]:
        """The attributes that it wants something of, or something else."""
        return list(dict.fromkeys([*self.wanted, *self.unwanted]))

    @property
    def says_something(self) -> bool:
        """Whether a wish was found."""
        return bool(self.wanted or self.unwanted or self.before or self.takes_back or self.keeps)


@dataclass(frozen=True)
class Cues:
    """Phrases that change what is said around them."""

    negations: Sequence[str]  # the next words aren't wanted
    behind: Sequence[str]  # the words before aren't: "the dots off"
    keeps: Sequence[str]  # the next words stay
    before: Sequence[str]  # an earlier wish is taken back
    breaks: Sequence[str]  # a part of a sentence ends


@dataclass(frozen=True)
class WishRule:
    """Reads each message from left to right; a later wish replaces an earlier one about the same attribute.

    A word counts for the attribute whose name is nearest to it in its part of the sentence. Where a message says
    nothing that is known and is English, words that the text encoder splits into pieces are taken for misspelt ones.
    """

    attributes: Mapping[str, AttributeWords]
    colours: Mapping[str, Sequence[str]]  # names of colours in options, and what people call them
    cues: Cues
    reach: int  # words from a negation to what it negates
    spelling: int  # letters of a word for each that may be wrong
    example: str  # of wishes, for messages in which none was found

    def __call__(
        self, messages: Sequence[Sequence[str]], attributes: Mapping[str, Attribute], text_encoder: PromptEncoder
    ) -> list[Wishes]:
        """Returns the wishes of each user; PmgError if an attribute isn't one of the scenario's."""
        if unknown := self.attributes.keys() - attributes.keys():
            raise PmgError(
                f"wishes.attributes: '{min(unknown)}' is no attribute of the scenario, which has "
                f"{', '.join(attributes) or 'none'}"
            )
        none = text_encoder.count_tokens("")
        spell = build_speller(self.vocabulary, lambda word: text_encoder.count_tokens(word) == none + 1, self.spelling)
        return [self._read_user(said, attributes, spell) for said in messages]

    def _read_user(
        self, said: Sequence[str], attributes: Mapping[str, Attribute], spell: Callable[[str], str]
    ) -> Wishes:
        state: dict[str, tuple[str, ...]] = {}
        last: set[str] = set()  # attributes that the latest wish changed
        unread, foreign = [], False
        for message in said:
            change = self.read(message)
            english = change.says_something or is_english(message)
            if english:
                change = change if change.says_something else self.read(message, spell)
            found = {name: self._find_options(name, change, attributes[name].options) for name in change.spoken_of}
            found = {name: options for name, options in found.items() if options}
            gone = change.before or (last if change.takes_back and not found else set())
            if not found and not gone and not change.keeps:
                unread.append(message)
                foreign |= not english
            for name in gone:
                state.pop(name, None)
            state |= found
            last = set(found) or last
        return Wishes(state, note_of(unread, self.example, foreign))

    def _find_options(self, name: str, change: Change, options: Sequence[str]) -> tuple[str, ...]:
        """Returns the options of an attribute that would do; none if all would.

        All wanted expressions have to match, or the last ones that do so together; none of the unwanted ones. Of
        those the usual ones, if there are some.
        """
        unwanted, wanted = change.unwanted.get(name, ()), change.wanted.get(name, ())
        allowed = [one for one in options if not any(re.fullmatch(text, one) for text in unwanted)]
        usual = [self.attributes[name].usual] if wanted else []
        for text in (*reversed(wanted), *filter(None, usual)):
            allowed = [one for one in allowed if re.fullmatch(text, one)] or allowed
        return tuple(allowed) if len(allowed) < len(options) else ()

    def read(self, message: str, spell: Callable[[str], str] = str) -> Change:
        """Returns what a message changes; `spell` is applied to each of its words."""
        change = Change()
        for part in self._split([spell(word) for word in split_words(message)]):
            self._read_part(part, change)
        return change

    def _split(self, words: Sequence[str]) -> Iterator[list[str]]:
        """Yields parts of sentences, without their ends."""
        part: list[str] = []
        for word in (*words, "."):
            if word[0].isalnum() and word not in self.cues.breaks:
                part.append(word)
                continue
            if part:
                yield part
            part = []

    def _read_part(self, words: Sequence[str], change: Change) -> None:
        mentions = list(self._find(words))
        of_kind = {kind: [one for one in mentions if one.meaning.kind == kind] for kind in ("name", "word", "before")}
        change.takes_back |= bool(of_kind["before"])
        used: set[str] = set()
        for one in of_kind["word"]:
            name, options = _attribute_of(one, of_kind["name"])
            if name:
                used.add(name)
                self._add(change, name, one, mentions, some=options, none=options)
        for one in of_kind["name"]:
            for name in one.meaning.options.keys() - used:
                words_of = self.attributes[name]
                self._add(change, name, one, mentions, some=words_of.some, none=words_of.none, named=True)

    def _add(
        self, change: Change, name: str, one: Mention, mentions: Sequence[Mention], *, some: str, none: str,
        named: bool = False,
    ) -> None:  # fmt: skip
        """Adds what a word asks for to a change: options `some`, where it is negated `none`, or none of `some`.

        `named`: it is the name of the attribute alone.
        """
        taken_off = _is_behind(one, mentions)  # "leave the outline off" keeps none
        negated = taken_off or _is_negated(one, mentions, self.reach)
        if not taken_off and any(each.meaning.kind == "keep" and each.start < one.start for each in mentions):
            change.keeps.add(name)
        elif change.takes_back and any(each.meaning.kind == "before" for each in mentions) and (named or not negated):
            change.before.add(name)
        elif named:
            if none if negated else some:
                change.wanted.setdefault(name, []).append(none if negated else some)
        else:
            (change.unwanted if negated else change.wanted).setdefault(name, []).append(some)

    def _find(self, words: Sequence[str]) -> Iterator[Mention]:
        """Yields what is in the vocabulary, the longest phrases first, each word once."""
        longest, place = max(map(len, self.vocabulary)), 0
        while place < len(words):
            for length in range(min(longest, len(words) - place), 0, -1):
                meaning = self.vocabulary.get(tuple(words[place : place + length]))
                if meaning is not None:
                    yield Mention(place, place + length, meaning)
                    place += length - 1
                    break
            place += 1

    @cached_property
    def vocabulary(self) -> dict[Phrase, Meaning]:
        """What phrases mean."""
        cues = {"not": self.cues.negations, "behind": self.cues.behind, "keep": self.cues.keeps}
        return build_vocabulary(self.attributes, self.colours, cues | {"before": self.cues.before})


def build_wish_rule(
    attributes: Mapping[str, Mapping[str, Any]], colours: Mapping[str, Sequence[str]],
    cues: Mapping[str, Sequence[str]], reach: Count = 5, spelling: Count = 4, example: str = "",
) -> WishRule:  # fmt: skip
    """Builds a rule from plain values, see `AttributeWords` and `Cues`; PmgError if an expression can't be read."""
    read = {name: AttributeWords(**words) for name, words in attributes.items()}
    for name, words in read.items():
        words.check(name)
    return WishRule(read, colours, Cues(**cues), reach, spelling, example)


def note_of(unread: Sequence[str], example: str, foreign: bool = False) -> str:
    """Returns what to tell a user of messages in which no wish was found; nothing where there are none."""
    if not unread:
        return ""
    quoted = ", ".join(f'"{message}"' for message in unread)
    start = "I read English alone, and found" if foreign else "I found"
    return f"{start} no wish in: {quoted}" + (f"; try: {example}" if example else "")


def _is_negated(one: Mention, mentions: Sequence[Mention], reach: int) -> bool:
    """Returns whether a negation is at most `reach` words before a mention."""
    return any(0 <= one.start - each.end < reach for each in mentions if each.meaning.kind == "not")


def _is_behind(one: Mention, mentions: Sequence[Mention]) -> bool:
    """Returns whether a negation is right behind a mention, or one word further."""
    return any(0 <= each.start - one.end < 2 for each in mentions if each.meaning.kind == "behind")


def _attribute_of(one: Mention, names: Sequence[Mention]) -> tuple[str, str]:
    """Returns the attribute that a word is about, with its expression of options; empty: nothing that is known.

    The attribute whose name is nearest, of two at the same distance the one that follows; else what the word means
    without a name.
    """

    def distance(name: Mention) -> tuple[int, bool]:
        """Returns the number of words between, and whether the name comes first."""
        follows = name.start >= one.end
        return (name.start - one.end if follows else one.start - name.end), not follows

    fitting = [name for name in names if name.meaning.options.keys() & one.meaning.options.keys()]
    if fitting:
        nearest = min(fitting, key=distance)
        attribute = next(each for each in nearest.meaning.options if each in one.meaning.options)
        return attribute, one.meaning.options[attribute]
    return next(iter(one.meaning.alone.items()), ("", ""))
