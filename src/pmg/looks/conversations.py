"""Users of looks who talk with an assistant: what they click, what they say, or both."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pmg.configuration.ranges import Count, CountOrZero, Fraction, NotNegative, Seed
from pmg.data.chats import USER
from pmg.data.dataset import Dataset
from pmg.domain import Example, Item, PmgError, Turn
from pmg.looks.dataset import FinishedImages, LookDataset
from pmg.looks.measured_captions import MeasuringCaptioner
from pmg.looks.phrases import SUBJECT, Phrases, PhraseSet
from pmg.seeding import stable_number

BEHAVIOURS = ("clicks", "chat", "both")
ASSISTANT = "assistant"


@dataclass(frozen=True)
class Said:
    """A conversation, and which measured words its statements are about.

    Attributes:
        turns: oldest first.
        likes: measured words that the user likes.
        dislikes: measured words that the user dislikes.
    """

    turns: tuple[Turn, ...]
    likes: tuple[str, ...]
    dislikes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Conversations:
    """Writes conversations about looks by templates; each depends on the seed and the user alone.

    A user's messages are an opening, statements of taste and distractors in random order, each followed by a reply.

    Attributes:
        phrases: of the three splits.
        shares: of users by `BEHAVIOURS`, as weights.
        likes: statements about words that describe the user's look, or as many as there are.
        dislikes: statements about other words of the same attributes.
        distractors: messages that say nothing about the user's own taste.
        agreement: share of the pictures of a look that a word must describe to be one of the look.
        seed: of it all.

    Raises:
        PmgError: no share, or another name than `BEHAVIOURS`.
    """

    phrases: Phrases
    shares: Mapping[str, NotNegative]
    likes: Count
    dislikes: CountOrZero
    distractors: CountOrZero
    agreement: Fraction
    seed: Seed

    def __post_init__(self) -> None:
        if not set(self.shares) <= set(BEHAVIOURS) or not sum(self.shares.values()):
            raise PmgError(
                f"data.conversations.shares: {dict(self.shares)}. Give weights to {', '.join(BEHAVIOURS)}, at least "
                "one above 0"
            )

    def behaviour(self, user: str) -> str:
        """Returns whether a user has clicks, a chat or both."""
        rng = random.Random(stable_number(self.seed, "behaviour", user))
        return rng.choices(list(self.shares), weights=list(self.shares.values()))[0]

    def write(self, user: str, split: str, words: Mapping[str, str]) -> Said:
        """Returns the conversation of a user; without `words` of their look, nothing is said about taste."""
        rng, phrases = random.Random(stable_number(self.seed, "conversation", user)), self.phrases[split]
        liked = rng.sample(sorted(words), min(self.likes, len(words)))
        disliked = [rng.choice(sorted(words)) for _ in range(self.dislikes if words else 0)]
        likes = [(name, words[name]) for name in liked]
        dislikes = list(dict.fromkeys((name, phrases.other_word(name, words[name], rng)) for name in disliked))
        statements = [_state(phrases.likes, pair, phrases, rng) for pair in likes]
        statements += [_state(phrases.dislikes, pair, phrases, rng) for pair in dislikes]
        statements += [self._distract(phrases, words, rng) for _ in range(self.distractors)]
        rng.shuffle(statements)
        messages = [rng.choice(phrases.openings), *statements]
        turns = [Turn(*pair) for text in messages for pair in ((USER, text), (ASSISTANT, rng.choice(phrases.replies)))]
        return Said(tuple(turns[:-1]), tuple(word for _, word in likes), tuple(word for _, word in dislikes))

    def _distract(self, phrases: PhraseSet, words: Mapping[str, str], rng: random.Random) -> str:
        """Returns a sentence that may name a word, but of no look that the user likes."""
        sentence = rng.choice([text for text in phrases.distractors if words or SUBJECT not in text])
        if SUBJECT not in sentence:
            return sentence
        name = rng.choice(sorted(words))
        return _state([sentence], (name, phrases.other_word(name, words[name], rng)), phrases, rng)


def _state(sentences: Sequence[str], pair: tuple[str, str], phrases: PhraseSet, rng: random.Random) -> str:
    text = rng.choice(sentences).replace(SUBJECT, phrases.express(*pair, rng))
    return text[0].upper() + text[1:]


class LookChatDataset(Dataset):
    """The users of `LookDataset`, whose behaviour is partly or wholly a conversation.

    Examples, pictures and labels are those of the data set of looks. Labels in addition: ``behaviour`` (``clicks``,
    ``chat`` or ``both``), by which results are split, and ``said_likes`` and ``said_dislikes`` (the measured words of
    the statements, separated by commas, for evaluation alone).

    Args:
        looks: the users, with their clicks.
        captioner: measures the words of a look.
        conversations: writes what users say.
        said_by: ``own``, or, as controls, ``other`` (each conversation is that of the next user of the split) or
            ``none`` (conversations without statements of taste).
    """

    groups = (*LookDataset.groups, "behaviour")
    taste_label = LookDataset.taste_label
    pictures_of = "looks"

    def __init__(
        self, looks: LookDataset, captioner: MeasuringCaptioner, conversations: Conversations,
        said_by: Literal["own", "other", "none"] = "own",
    ) -> None:  # fmt: skip
        self.looks, self.captioner, self.conversations, self.said_by = looks, captioner, conversations, said_by

    @property
    def images(self) -> FinishedImages:
        """Those of the looks."""
        return self.looks.images

    def examples(self, split: str, users: int | None = None, targets: int | None = None) -> list[Example]:
        """Returns the examples of a split; arguments and errors as `LookDataset.examples`."""
        examples = self.looks.examples(split, users, targets)
        firsts = {example.user: example for example in reversed(examples)}
        names = list(dict.fromkeys(example.user for example in examples))
        speakers = dict(zip(names, [*names[1:], names[0]] if self.said_by == "other" else names, strict=True))
        said = {
            user: self.conversations.write(
                speaker, split, {} if self.said_by == "none" else self.words(firsts[speaker])
            )
            for user, speaker in speakers.items()
        }
        return [self._add(example, said[example.user]) for example in examples]

    def words(self, example: Example) -> dict[str, str]:
        """Returns the words that describe a user's first look, by attribute: those that most of its pictures share."""
        items = [Item(name, "", "") for name in example.labels["look_references"].split()]
        measured = self.captioner.describe(self.images.pixels(self.images.rows(items)))
        words = {}
        for attribute in measured[0]:
            word, count = Counter(one[attribute] for one in measured).most_common(1)[0]
            if count >= self.conversations.agreement * len(measured):
                words[attribute] = word
        return words

    def _add(self, example: Example, said: Said) -> Example:
        """Returns an example with its conversation, or without its clicks."""
        behaviour = self.conversations.behaviour(example.user)
        speaks = behaviour != "clicks"
        likes, dislikes = (said.likes, said.dislikes) if speaks else ((), ())
        labels = {
            **example.labels, "behaviour": behaviour, "said_likes": ", ".join(likes),
            "said_dislikes": ", ".join(dislikes),
        }  # fmt: skip
        return replace(
            example,
            labels=labels,
            history=() if behaviour == "chat" else example.history,
            conversation=said.turns if speaks else (),
        )
