"""Phrases about looks: what people call a measured word, and sentences about it, in three disjoint sets."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from string import Formatter

from pmg.domain import PmgError
from pmg.looks.measured_captions import COLOURS, NEUTRAL

NAMES = {"{colour}": COLOURS, "{hue}": tuple(name for name in COLOURS if name not in NEUTRAL)}
"""Places of a colour's name in a measured word and in what people call it, with the names that they may have."""
SUBJECT = "{subject}"  # place of what a sentence is about
OTHER = "{other}"  # place of what it sets against it
TITLES = "{titles}"  # place of names of pictures
PLACES = {
    "likes": [{SUBJECT}], "dislikes": [{SUBJECT}], "pairs": [{SUBJECT, OTHER}], "changes": [{SUBJECT, OTHER}],
    "mine": [{TITLES}], "theirs": [{TITLES}], "distractors": [{SUBJECT}, set()],
}  # fmt: skip
"""Places that a list's sentences have; one of several sets."""


@dataclass(frozen=True)
class PhraseSet:
    """The phrases of a split; PmgError if a list is empty, or a sentence lacks its `SUBJECT` or has another place."""

    openings: Sequence[str]  # first messages, which say nothing about looks
    likes: Sequence[str]  # sentences of a person who likes `SUBJECT`
    dislikes: Sequence[str]  # sentences of a person who dislikes `SUBJECT`
    pairs: Sequence[str]  # sentences of a person who wants `SUBJECT`, and not `OTHER`; whichever comes first
    changes: Sequence[str]  # sentences of a person who liked `OTHER` before, and likes `SUBJECT` now
    mine: Sequence[str]  # sentences that say that pictures named `TITLES` alone are the person's own
    theirs: Sequence[str]  # sentences that say that pictures named `TITLES` are another person's
    distractors: Sequence[str]  # sentences that say nothing about the person's own taste, with or without `SUBJECT`
    replies: Sequence[str]  # messages of the assistant
    # for each attribute (as measured captions name it) and each of its words what people call it; a word may have one
    # of the places in `NAMES`
    words: Mapping[str, Mapping[str, Sequence[str]]]

    def __post_init__(self) -> None:
        for name, phrases in self.sentences:
            if not phrases:
                raise PmgError(f"data.conversations.phrases: {name} is empty. Give it at least one phrase")
            for phrase in phrases:
                places = {f"{{{place}}}" for _, place, _, _ in Formatter().parse(phrase) if place is not None}
                if places not in _allowed_places(name):
                    raise PmgError(
                        f"data.conversations.phrases: {name} has '{phrase}' with the places {sorted(places)}. "
                        f"It needs {' or '.join(str(sorted(one)) for one in _allowed_places(name))}"
                    )

    @property
    def sentences(self) -> Iterator[tuple[str, Sequence[str]]]:
        """Yields the lists of phrases by their keys."""
        for name in (*PLACES, "openings", "replies"):
            yield name, getattr(self, name)
        for attribute, words in self.words.items():
            for word, phrases in words.items():
                yield f"words.{attribute}.{word}", phrases

    def express(self, attribute: str, word: str, rng: random.Random) -> str:
        """Returns what a person calls a measured word; PmgError if there is no phrase for it."""
        for kind, phrases in self.words.get(attribute, {}).items():
            if found := _match(kind, word):
                place, colour = found
                return rng.choice(phrases).replace(place, colour) if place else rng.choice(phrases)
        raise PmgError(f"data.conversations.phrases: words.{attribute} has nothing for '{word}'. Add it")

    def other_word(self, attribute: str, word: str, rng: random.Random) -> str:
        """Returns a word of the same attribute that is of another kind; a bare colour's name: another colour."""
        kind = rng.choice(sorted(kind for kind in self.words[attribute] if kind in NAMES or not _match(kind, word)))
        for place, names in NAMES.items():
            kind = kind.replace(place, rng.choice([name for name in names if name not in word.split()]))
        return kind


class Phrases:
    """Phrases of the three splits; PmgError if two of them have one in common."""

    def __init__(self, train: PhraseSet, validation: PhraseSet, test: PhraseSet) -> None:
        self.sets = {"train": train, "validation": validation, "test": test}
        texts = {
            split: {text.casefold() for _, sentences in phrases.sentences for text in sentences}
            for split, phrases in self.sets.items()
        }
        for one, other in combinations(texts, 2):
            if common := texts[one] & texts[other]:
                raise PmgError(
                    f"data.conversations.phrases: '{min(common)}' is in {one} and in {other}, so it leaks. Leave it "
                    "out of one of them"
                )

    @cache  # noqa: B019 - one object lives as long as its data set
    def mixed(self, sentences: str, words: str) -> PhraseSet:
        """Returns the sentences of one split with what people call the words in another."""
        return replace(self.sets[sentences], words=self.sets[words].words)

    def __getitem__(self, split: str) -> PhraseSet:
        return self.sets[split]


def _match(kind: str, word: str) -> tuple[str, str] | None:
    """Returns a kind's place of a colour and the colour there in a word of this kind; empty texts for none.

    None: the word is of another kind.
    """
    for place, names in NAMES.items():
        if place in kind:
            pattern = re.escape(kind).replace(re.escape(place), f"({'|'.join(names)})")
            found = re.fullmatch(pattern, word)
            return (place, found.group(1)) if found else None
    return ("", "") if kind == word else None


def _allowed_places(name: str) -> list[set[str]]:
    """Returns the sets of places that a phrase of this key may have."""
    if name.startswith("words."):
        return [set(), *({place} for place in NAMES if place in name)]
    return PLACES.get(name, [set()])
