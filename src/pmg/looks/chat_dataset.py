"""Users of looks who click, talk with an assistant, or do both, by channel; the later of two wishes counts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from typing import Literal

from pmg.configuration.ranges import Fraction, NotNegative
from pmg.data.dataset import Dataset
from pmg.domain import Example, Interaction, Item, PmgError
from pmg.looks.conversations import Conversations, Said, Wishes
from pmg.looks.dataset import FinishedImages, LookDataset
from pmg.looks.finishes import AS_DRAWN, Finish
from pmg.looks.measured_captions import MeasuringCaptioner
from pmg.looks.users import DrawingIndex, Picture
from pmg.progress import track
from pmg.seeding import stable_number

Channel = Literal["pictures", "words", "split", "conflict"]
CHANNELS: tuple[Channel, ...] = ("pictures", "words", "split", "conflict")
OF_THE_ARTIST = ("shading",)  # attributes that pictures show whatever their finish


@dataclass(frozen=True)
class Behaviour:
    """A user's clicks, oldest first, and what they say; by channel."""

    channel: str
    history: tuple[Interaction, ...]
    wishes: Wishes


class LookChatDataset(Dataset):
    """The users of `LookDataset`, who show their taste through a channel; targets and truths stay the same.

    ``pictures``: clicks alone, as in `LookDataset`. ``words``: a conversation alone. ``split``: clicks are drawn as
    the artist drew them, and the finish is said. ``conflict``: clicks have another finish, which they liked before;
    what they say counts. Labels in addition to those of the looks: ``channel``; ``mixed`` (``yes`` where another
    person's pictures are among the clicks); for evaluation alone ``said_likes`` and ``said_dislikes``, the measured
    words of the statements, separated by commas. PmgError if `train_channels` has other names, or no weight above 0.

    The `captioner` measures the words of a look, of which `conversations` are written. `channel` is that of
    validation and test users; `train_channels` weighs those of training users, None: all have `channel`. In
    ``split``, a share `shown` of the clicks shows the finish, of training users `train_shown`, None: a random one for
    each. In ``split`` and ``conflict`` the clicks of a share `mixed` of the users hold another person's, and
    they say so. `said_by`: ``own``, or, as controls, ``other`` (each conversation is that of the next user of the
    split), ``none`` (without statements of taste) or ``shuffled`` (each message's words in random order).
    """

    groups = (*LookDataset.groups, "channel", "mixed")
    taste_label = LookDataset.taste_label
    pictures_of = "looks"

    def __init__(
        self, looks: LookDataset, captioner: MeasuringCaptioner, conversations: Conversations, channel: Channel, *,
        train_channels: Mapping[str, NotNegative] | None = None, shown: Fraction = 0.0,
        train_shown: Fraction | None = 0.0, mixed: Fraction = 0.0,
        said_by: Literal["own", "other", "none", "shuffled"] = "own",
    ) -> None:  # fmt: skip
        weights = {channel: 1.0} if train_channels is None else dict(train_channels)
        if not set(weights) <= set(CHANNELS) or not sum(weights.values()):
            raise PmgError(
                f"data.train_channels: {weights}. Give weights to {', '.join(CHANNELS)}, at least one above 0"
            )
        self.looks, self.captioner, self.conversations = looks, captioner, conversations
        self.channel, self.train_channels = channel, weights
        self.shown, self.train_shown, self.mixed, self.said_by = shown, train_shown, mixed, said_by

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
        behaving = track([*by_user.items()], f"Measuring looks of {split} users")
        behaviours = {user: self._behave(user, split, examples) for user, examples in behaving}
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
            share = self.train_shown if split == "train" else self.shown
            if share is None:
                share = random.Random(stable_number(self.conversations.seed, "shown", user)).random()
            finishes = [one.finish if rng.random() < share else before for one in drawn]
        else:
            before = self.looks.space.sample(rng)
            finishes = [self.looks.space.vary(before, rng, self.looks.users.spread) for _ in drawn]
        items = [self.images.item(Picture(one.row, finish)) for one, finish in zip(drawn, finishes, strict=True)]
        own = [item for item, picture in zip(items, drawn, strict=True) if self._artist(picture) == artist]
        shown = self.words(own) if channel == "conflict" and own else {}
        earlier = {name: shown[name] for name, word in words.items() if shown.get(name, word) != word}
        if rng.random() >= self.mixed or not own:
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
            used = used | {self._index.concepts[row]}
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
