"""Users of looks who click, talk with an assistant, or do both, by channel; the later of two wishes counts."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Literal

from pmg.configuration.ranges import Count, CountOrZero, Fraction, NotNegative, Seed
from pmg.data.chats import USER
from pmg.data.dataset import Dataset
from pmg.data.published_files import read_lines
from pmg.domain import Example, Interaction, Item, PmgError, Turn
from pmg.looks.dataset import FinishedImages, LookDataset
from pmg.looks.finishes import AS_DRAWN, Finish
from pmg.looks.measured_captions import MeasuringCaptioner
from pmg.looks.phrases import OTHER, SUBJECT, TITLES, Phrases, PhraseSet
from pmg.looks.users import DrawingIndex, Picture
from pmg.seeding import stable_number

Channel = Literal["pictures", "words", "split", "conflict"]
CHANNELS: tuple[Channel, ...] = ("pictures", "words", "split", "conflict")
ASSISTANT = "assistant"
OF_THE_ARTIST = ("shading",)  # attributes that pictures show whatever their finish


@dataclass(frozen=True)
class Wishes:
    """What a user says, in measured words by attribute.

    Attributes:
        words: of what they like.
        earlier: what they liked before, where it differs.
        own: titles of their own pictures, where others' are among them.
        others: titles of the other pictures.
    """

    words: Mapping[str, str]
    earlier: Mapping[str, str]
    own: Sequence[str] = ()
    others: Sequence[str] = ()


@dataclass(frozen=True)
class Behaviour:
    """A user's clicks, oldest first, and what they say; by channel."""

    channel: str
    history: tuple[Interaction, ...]
    wishes: Wishes


@dataclass(frozen=True)
class Said:
    """A conversation, and which measured words its statements are about.

    Attributes:
        turns: oldest first.
        likes: measured words that the user likes now.
        dislikes: measured words that the user dislikes, or likes no longer.
    """

    turns: tuple[Turn, ...]
    likes: tuple[str, ...]
    dislikes: tuple[str, ...]


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

    Attributes:
        phrases: of the three splits.
        likes: statements about words that describe the user's look, or as many as there are.
        dislikes: statements about other words of the same attributes.
        distractors: messages that say nothing about the user's own taste.
        pairs: share of statements that name an unwanted word, too; the same words the other way round are as likely.
        replies: share of messages that the assistant answers.
        agreement: share of the pictures of a look that a word must describe to be one of the look.
        seed: of it all.
        words_from: split whose words for looks are used; None: the user's.
        sentences_from: split whose sentences are used; None: the user's.
        file: JSON lines with ``user``, ``messages`` and ``wants``, the liked words by attribute, of users who wrote
            themselves; None: nobody did.
    """

    phrases: Phrases
    likes: Count
    dislikes: CountOrZero
    distractors: CountOrZero
    pairs: Fraction
    replies: Fraction
    agreement: Fraction
    seed: Seed
    words_from: Literal["train", "validation", "test"] | None = None
    sentences_from: Literal["train", "validation", "test"] | None = None
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
        groups = [one.messages for one in stated]
        groups += [[self._distract(phrases, words, rng)] for _ in range(self.distractors)]
        if wishes.others:
            groups.append([_say_whose(phrases, wishes, rng)])
        messages = [rng.choice(phrases.openings), *_interleave(groups, rng)]
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


def _interleave(groups: Sequence[Sequence[str]], rng: random.Random) -> list[str]:
    """Returns the messages of all groups in random order, each group's in their own."""
    order = [number for number, messages in enumerate(groups) for _ in messages]
    rng.shuffle(order)
    rest = [iter(messages) for messages in groups]
    return [next(rest[number]) for number in order]


class LookChatDataset(Dataset):
    """The users of `LookDataset`, who show their taste through a channel; targets and truths stay the same.

    ``pictures``: clicks alone, as in `LookDataset`. ``words``: a conversation alone. ``split``: clicks are drawn as
    the artist drew them, and the finish is said. ``conflict``: clicks have another finish, which they liked before;
    what they say counts. Labels in addition to those of the looks: ``channel``; ``mixed`` (``yes`` where another
    person's pictures are among the clicks); for evaluation alone ``said_likes`` and ``said_dislikes``, the measured
    words of the statements, separated by commas.

    Args:
        looks: the users, with their clicks.
        captioner: measures the words of a look.
        conversations: writes what users say.
        channel: of validation and test users.
        train_channels: weights of the channels of training users; None: all have `channel`.
        shown: in ``split``, share of the clicks that show the finish.
        mixed: in ``split`` and ``conflict``, share of users whose clicks hold another person's, and who say so.
        said_by: ``own``, or, as controls, ``other`` (each conversation is that of the next user of the split),
            ``none`` (conversations without statements of taste) or ``shuffled`` (each message's words in random
            order).

    Raises:
        PmgError: `train_channels` has other names, or no weight above 0.
    """

    groups = (*LookDataset.groups, "channel", "mixed")
    taste_label = LookDataset.taste_label
    pictures_of = "looks"

    def __init__(
        self, looks: LookDataset, captioner: MeasuringCaptioner, conversations: Conversations, channel: Channel, *,
        train_channels: Mapping[str, NotNegative] | None = None, shown: Fraction = 0.0, mixed: Fraction = 0.0,
        said_by: Literal["own", "other", "none", "shuffled"] = "own",
    ) -> None:  # fmt: skip
        weights = {channel: 1.0} if train_channels is None else dict(train_channels)
        if not set(weights) <= set(CHANNELS) or not sum(weights.values()):
            raise PmgError(
                f"data.train_channels: {weights}. Give weights to {', '.join(CHANNELS)}, at least one above 0"
            )
        self.looks, self.captioner, self.conversations = looks, captioner, conversations
        self.channel, self.train_channels = channel, weights
        self.shown, self.mixed, self.said_by = shown, mixed, said_by

    @property
    def images(self) -> FinishedImages:
        """Those of the looks."""
        return self.looks.images

    @cached_property
    def _index(self) -> DrawingIndex:
        return DrawingIndex(self.looks)

    def examples(self, split: str, users: int | None = None, targets: int | None = None) -> list[Example]:
        """Returns the examples of a split; arguments and errors as `LookDataset.examples`."""
        by_user: dict[str, list[Example]] = {}
        for example in self.looks.examples(split, users):
            by_user.setdefault(example.user, []).append(example)
        behaviours = {user: self._behave(user, split, examples) for user, examples in by_user.items()}
        names = list(behaviours)
        speakers = dict(zip(names, [*names[1:], *names[:1]] if self.said_by == "other" else names, strict=True))
        return [
            example
            for user, examples in by_user.items()
            for example in self._add(
                examples[:targets], behaviours[user], self._converse(speakers[user], split, behaviours)
            )
        ]

    def words(self, items: Sequence[Item]) -> dict[str, str]:
        """Returns the words that most of the items' pictures share, by attribute."""
        measured = self.captioner.describe(self.images.pixels(self.images.rows(items)))
        words = {}
        for attribute in measured[0]:
            word, count = Counter(one[attribute] for one in measured).most_common(1)[0]
            if count >= self.conversations.agreement * len(measured):
                words[attribute] = word
        return words

    def _behave(self, user: str, split: str, examples: Sequence[Example]) -> Behaviour:
        """Returns what a user, whose examples these are, clicks and says."""
        rng = random.Random(stable_number(self.conversations.seed, "channel", user))
        weights = self.train_channels if split == "train" else {self.channel: 1.0}
        channel = rng.choices([*weights], weights=[*weights.values()])[0]
        clicks, example = examples[0].history, examples[0]
        if channel == "pictures":
            return Behaviour(channel, clicks, Wishes({}, {}))
        words = self.words([Item(name, "", "") for name in example.labels["look_references"].split()])
        if channel == "words":
            return Behaviour(channel, (), Wishes(words, {}))
        words = {name: word for name, word in words.items() if name not in OF_THE_ARTIST}
        drawn = [self.images.picture(one.item) for one in clicks]
        artist = self._artist(self.images.picture(example.truth[0]))
        if channel == "split":
            before = AS_DRAWN
            finishes = [one.finish if rng.random() < self.shown else before for one in drawn]
        else:
            before = self.looks.space.sample(rng)
            finishes = [self.looks.space.vary(before, rng, self.looks.users.spread) for _ in drawn]
        items = [self.images.item(Picture(one.row, finish)) for one, finish in zip(drawn, finishes, strict=True)]
        own = [item for item, picture in zip(items, drawn, strict=True) if self._artist(picture) == artist]
        shown = self.words(own) if channel == "conflict" else {}
        earlier = {name: shown[name] for name, word in words.items() if shown.get(name, word) != word}
        if rng.random() >= self.mixed:
            return Behaviour(channel, _click(items, clicks[0].action), Wishes(words, earlier))
        own = own[: (len(items) + 1) // 2]
        used = {one.item.concept for one in clicks} | {one.target.concept for one in examples}
        others = self._draw_others(artist, None if channel == "conflict" else before, len(own), used, rng)
        both = rng.sample([*own, *others], 2 * len(own))
        wishes = Wishes(words, earlier, *([one.title for one in both if one in some] for some in (own, others)))
        return Behaviour(channel, _click(both, clicks[0].action), wishes)

    def _draw_others(
        self, artist: str, finish: Finish | None, count: int, used: set[str], rng: random.Random
    ) -> list[Item]:
        """Returns pictures by another artist than `artist`, under a finish; None: a random one."""
        look = next(look for _ in repeat(None) if (look := self._index.sample_look("met", rng))[0] != artist)
        items = []
        for _ in range(count):
            row = self._index.choose(look[0], used, rng)
            used = used | {self._index.concept(row)}
            items.append(self.images.item(Picture(row, finish or look[1])))
        return items

    def _artist(self, picture: Picture) -> str:
        return self.looks.drawings.artists[picture.row]

    def _converse(self, speaker: str, split: str, behaviours: Mapping[str, Behaviour]) -> Said:
        wishes = Wishes({}, {}) if self.said_by == "none" else behaviours[speaker].wishes
        said = self.conversations.write(speaker, split, wishes)
        if self.said_by != "shuffled":
            return said
        rng = random.Random(stable_number(self.conversations.seed, "word order", speaker))
        orders = [rng.sample(words, len(words)) for words in (turn.text.split() for turn in said.turns)]
        turns = (replace(turn, text=" ".join(words)) for turn, words in zip(said.turns, orders, strict=True))
        return replace(said, turns=tuple(turns))

    def _add(self, examples: Sequence[Example], behaviour: Behaviour, said: Said) -> list[Example]:
        """Returns a user's examples with their clicks, and their conversation where the channel has one."""
        if behaviour.channel == "pictures":
            said = Said((), (), ())
        labels = {
            "channel": behaviour.channel,
            "mixed": "yes" if behaviour.wishes.others else "no",
            "said_likes": ", ".join(said.likes),
            "said_dislikes": ", ".join(said.dislikes),
        }
        return [
            replace(one, labels={**one.labels, **labels}, history=behaviour.history, conversation=said.turns)
            for one in examples
        ]


def _click(items: Sequence[Item], action: str) -> tuple[Interaction, ...]:
    return tuple(Interaction(item, action, time) for time, item in enumerate(items))
