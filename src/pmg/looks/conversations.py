"""What users say about looks: conversations by templates, and messages that people wrote themselves."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pmg.configuration.ranges import Count, CountOrZero, Fraction, Seed
from pmg.data.chats import USER
from pmg.data.published_files import read_lines
from pmg.domain import PmgError, Turn
from pmg.looks.phrases import OTHER, SUBJECT, TITLES, Phrases, PhraseSet
from pmg.seeding import stable_number

ASSISTANT = "assistant"


@dataclass(frozen=True)
class Wishes:
    """What a user says, in measured words by attribute."""

    words: Mapping[str, str]  # of what they like
    earlier: Mapping[str, str]  # what they liked before, where it differs
    own: Sequence[str] = ()  # titles of their own pictures, where others' are among them
    others: Sequence[str] = ()  # titles of the other pictures


@dataclass(frozen=True)
class Said:
    """A conversation, and which measured words its statements are about."""

    turns: tuple[Turn, ...]  # oldest first
    likes: tuple[str, ...]
    dislikes: tuple[str, ...]  # the words that the user likes no longer, too


@dataclass(frozen=True)
class Statement:
    """Messages about one attribute, in their order, with the word that is liked and the one that isn't; '': none."""

    messages: Sequence[str]
    like: str = ""
    dislike: str = ""


@dataclass(frozen=True, kw_only=True)
class Conversations:
    """Writes conversations about looks by templates; each depends on the seed and the user alone.

    Messages are an opening, statements of taste, and distractors, in random order, some of them followed by a reply. A
    statement names a liked word alone, or a liked word and another that is not wanted, in either order; an earlier
    wish comes before the one that replaces it, in one message or in two.
    """

    phrases: Phrases  # of the three splits
    likes: Count  # statements about words that describe the user's look, or as many as there are
    dislikes: CountOrZero  # statements about other words of the same attributes
    distractors: CountOrZero  # messages that say nothing about the user's own taste
    # share of statements that name an unwanted word, too; the same words the other way round are as likely
    pairs: Fraction
    replies: Fraction  # share of messages that the assistant answers
    agreement: Fraction  # share of the pictures of a look that a word must describe to be one of the look
    seed: Seed  # of it all
    # share of training users who say little: a random number of the statements, without opening and distractors
    brief: Fraction = 0.0
    # split whose words for looks are used; None: the user's
    words_from: Literal["train", "validation", "test"] | None = None
    # split whose sentences are used; None: the user's
    sentences_from: Literal["train", "validation", "test"] | None = None
    # JSON lines with ``user``, ``messages`` and ``wants``, the liked words by attribute, of users who wrote
    # themselves; None: all conversations are made
    file: str | None = None

    @cached_property
    def written(self) -> dict[str, Said]:
        """What users wrote themselves; PmgError for a file that can't be read."""
        if self.file is None:
            return {}
        try:
            rows = [json.loads(line) for _, line in read_lines(Path(self.file), "name a file of messages")]
            return {
                row["user"]: Said(tuple(Turn(USER, text) for text in row["messages"]), (*row["wants"].values(),), ())
                for row in rows
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PmgError(
                f"data.conversations.file={self.file} can't be read ({type(error).__name__}: {error}); each line is "
                'like {"user": "test-00000", "messages": ["…"], "wants": {"ground": "white ground"}}'
            ) from None

    def write(self, user: str, split: str, wishes: Wishes) -> Said:
        """Returns what a user wrote, or else a conversation; without words of their look, it has nothing of taste."""
        if user in self.written:
            return self.written[user]
        rng = random.Random(stable_number(self.seed, "conversation", user))
        phrases = self.phrases.mixed(self.sentences_from or split, self.words_from or split)
        words = wishes.words
        stated = [
            self._state_like(phrases, (name, words[name]), wishes.earlier.get(name), rng)
            for name in rng.sample(sorted(words), min(self.likes, len(words)))
        ]
        for _ in range(self.dislikes if words else 0):
            name = rng.choice(sorted(words))
            other = phrases.other_word(name, words[name], rng)
            stated.append(Statement([_fill(phrases.dislikes, phrases, rng, name, {SUBJECT: other})], dislike=other))
        distractors = [[self._distract(phrases, words, rng)] for _ in range(self.distractors)]
        few = random.Random(stable_number(self.seed, "brief", user))
        brief = bool(stated) and split == "train" and few.random() < self.brief
        if brief:
            stated, distractors = few.sample(stated, few.randint(1, len(stated))), []
        groups = [one.messages for one in stated] + distractors
        if wishes.others:
            groups.append([_say_whose(phrases, wishes, rng)])
        opening = rng.choice(phrases.openings)
        order = [number for number, group in enumerate(groups) for _ in group]
        rng.shuffle(order)  # each group's messages keep their own order
        rest = [iter(group) for group in groups]
        messages = [next(rest[number]) for number in order]
        if not brief:
            messages.insert(0, opening)
        turns = []
        for text in messages:
            turns.append(Turn(USER, text))
            if rng.random() < self.replies:
                turns.append(Turn(ASSISTANT, rng.choice(phrases.replies)))
        likes = tuple(one.like for one in stated if one.like)
        return Said(tuple(turns), likes, tuple(dict.fromkeys(one.dislike for one in stated if one.dislike)))

    def _state_like(
        self, phrases: PhraseSet, pair: tuple[str, str], earlier: str | None, rng: random.Random
    ) -> Statement:
        """Returns what is said about an attribute, its liked word, and the earlier one that it replaces."""
        name, word = pair
        if earlier is not None and rng.random() < 0.5:
            said = [_fill(phrases.likes, phrases, rng, name, {SUBJECT: one}) for one in (earlier, word)]
            return Statement(said, word, earlier)
        other, sentences = earlier, phrases.changes
        if earlier is None and rng.random() < self.pairs:
            other, sentences = phrases.other_word(name, word, rng), phrases.pairs
        if other is None:
            return Statement([_fill(phrases.likes, phrases, rng, name, {SUBJECT: word})], word)
        return Statement([_fill(sentences, phrases, rng, name, {SUBJECT: word, OTHER: other})], word, other)

    def _distract(self, phrases: PhraseSet, words: Mapping[str, str], rng: random.Random) -> str:
        """Returns a sentence that may name a word, but of no look that the user likes."""
        sentence = rng.choice([text for text in phrases.distractors if words or SUBJECT not in text])
        if SUBJECT not in sentence:
            return sentence
        name = rng.choice(sorted(words))
        return _fill([sentence], phrases, rng, name, {SUBJECT: phrases.other_word(name, words[name], rng)})


def _fill(
    sentences: Sequence[str], phrases: PhraseSet, rng: random.Random, attribute: str, words: Mapping[str, str]
) -> str:
    """Returns one of the sentences with what people call the words in its places."""
    text = rng.choice(sentences)
    for place, word in words.items():
        text = text.replace(place, phrases.express(attribute, word, rng))
    return text[0].upper() + text[1:]


def _say_whose(phrases: PhraseSet, wishes: Wishes, rng: random.Random) -> str:
    """Returns a message that says which pictures are the user's own."""
    sentences, titles = rng.choice([(phrases.mine, wishes.own), (phrases.theirs, wishes.others)])
    named = [f"the {title}" for title in titles]
    listed = " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
    text = rng.choice(sentences).replace(TITLES, listed)
    return text[0].upper() + text[1:]
