"""Users of the study of channels: by split, channel and control; and minimal pairs of messages."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

import pmg
from pmg.domain import Example, Item
from pmg.looks.phrases import OTHER, SUBJECT
from pmg.preferences.keyword_sources import caption_parts
from pmg.preferences.stated import own_messages
from pmg.seeding import stable_number

MESSAGES = Path(__file__).resolve().parent / "messages.jsonl"
WRITERS = ("data.looks.users.seed=1", "data.mixed=0", "split_sizes.test=330",
           f"data.conversations.file={MESSAGES}")  # fmt: skip
"""Users who wrote freely."""
NOT_OWN = {"other": "data.said_by=other", "shuffled": "data.said_by=shuffled"}
"""Words beside one's own pictures in `split`: another user's; one's own in random order."""
SHOWN = {"half shown": "data.shown=0.5", "shown": "data.shown=1"}
"""Shares of clicks that show the finish, in `split`; there none does."""
SEEN = {
    "seen words": "data.conversations.words_from=train",
    "seen sentences": "data.conversations.sentences_from=train",
    "seen both": "data.conversations.words_from=train data.conversations.sentences_from=train",
}
"""In `split`, users who have training users' words for looks, or their sentences, or both."""
OF_SPLIT = NOT_OWN | SHOWN | SEEN


@dataclass(frozen=True)
class World:
    """Users of a split through one channel, or of training through all, and what the generator says of their looks."""

    split: str
    channel: str

    @cached_property
    def config(self) -> Any:
        """The command's config."""
        chosen = {"all": [], "messages": ["data.channel=conflict", *WRITERS]}
        chosen |= {name: ["data.channel=split", *keys.split()] for name, keys in OF_SPLIT.items()}
        if self.channel == "captions":
            return pmg.compose("train", ["experiment=channel_encoders_captions"])
        own = chosen.get(self.channel, [f"data.channel={self.channel}"])
        return pmg.compose("train", ["experiment=channel_encoders", *own])

    @cached_property
    def data(self) -> Any:
        """The data set."""
        return pmg.instantiate(self.config.data)

    @cached_property
    def users(self) -> list[list[Example]]:
        """Each user's examples."""
        found: dict[str, list[Example]] = {}
        for example in self.data.examples(self.split, self.config.split_sizes[self.split], 3):
            found.setdefault(example.user, []).append(example)
        return list(found.values())

    @cached_property
    def vectors(self) -> Callable[[Sequence[Item]], Tensor]:
        """Returns the generator's own tokens of items' pictures, `(N, n D)`; each picture is seen once."""
        image_encoder, images = pmg.instantiate(self.config.image_encoder), self.data.images
        seen: dict[str, Tensor] = {}

        def see(items: Sequence[Item]) -> Tensor:
            """Returns the tokens."""
            new = [item for item in items if item.id not in seen]
            for start in range(0, len(new), 64):
                part = new[start : start + 64]
                with torch.no_grad():
                    vectors = image_encoder(images.pixels(images.rows(part)))
                seen.update(zip((one.id for one in part), vectors, strict=True))
            return torch.stack([seen[item.id] for item in items])

        return see

    def accepted(self) -> Tensor:
        """Returns the mean tokens of each user's true images, `(U, n D)`: what training learns from."""
        rows = track(self.users, f"{self.split} {self.channel}: accepted pictures")
        return torch.stack([self.vectors([one for each in user for one in each.truth]).mean(0) for user in rows])

    @cached_property
    def exact(self) -> Tensor:
        """Returns the mean tokens of other pictures of each user's exact look, `(U, n D)`: what is measured."""
        names = [user[0].labels["look_references"].split() for user in self.users]
        return torch.stack([self.vectors([Item(name, "", "") for name in row]).mean(0) for row in names])

    def clicks(self) -> tuple[Tensor, Tensor]:
        """Returns the mean tokens of each user's liked pictures, `(U, n D)`, and who has some, `(U, 1)`; else 0."""
        rows = track([user[0].liked for user in self.users], f"{self.split} {self.channel}: liked pictures")
        found = [self.vectors(liked).mean(0) if liked else None for liked in rows]
        zero = torch.zeros_like(next((one for one in found if one is not None), torch.zeros(1536)))
        return (
            torch.stack([zero if one is None else one for one in found]),
            torch.tensor([[float(one is not None)] for one in found]),
        )

    def options(self) -> list[list[str]]:
        """Returns the options of each attribute of the scenario."""
        return [list(one["options"]) for one in self.config.scenario.attributes.values()]

    def captions(self) -> list[list[str]]:
        """Returns the captions of each user's liked pictures, oldest first; each picture is described once."""
        captioner = pmg.instantiate(self.config.captioner)
        items = list({item.id: item for user in self.users for item in user[0].liked}.values())
        captions: dict[str, str] = {}
        for start in track(range(0, len(items), 64), f"{self.split}: captions"):
            part = items[start : start + 64]
            pixels = self.data.images.pixels(self.data.images.rows(part))
            captions.update(zip((item.id for item in part), captioner(part, pixels), strict=True))
        return [[captions[item.id] for item in user[0].liked] for user in self.users]

    @cached_property
    def described(self) -> Tensor:
        """Returns one-hot the option of each attribute that describes a true image, `(U, options)`: as training."""
        captioner, found = pmg.instantiate(self.config.captioner), []
        for user in track(self.users, f"{self.split} {self.channel}: captions"):
            (caption,) = captioner(
                [user[0].truth[0]], self.data.images.pixels(self.data.images.rows(user[0].truth[:1]))
            )
            parts = caption_parts(caption)
            found.append([float(word in parts) for words in self.options() for word in words])
        return torch.tensor(found)

    def found(self, scores: Tensor) -> list[float]:
        """Returns the share of the words that each user said they like which are the likeliest of their attribute.

        `scores` are of all options, `(U, options)`. NaN for who said nothing.
        """
        shares = []
        for user, row in zip(self.users, scores.split(1), strict=True):
            said = set(user[0].labels["said_likes"].split(", "))
            hits = [
                words[int(part.argmax())] in said
                for words, part in zip(self.options(), row[0].split([len(w) for w in self.options()]), strict=True)
                if said & set(words)
            ]
            shares.append(sum(hits) / len(hits) if hits else float("nan"))
        return shares

    def macro_f1(self, scores: Tensor) -> float:
        """Returns the mean F1 of the options, as what the users like of attributes that they spoke of.

        `scores` are of all options, `(U, options)`; the likeliest option of an attribute counts as named. Options that
        nobody wants are left out.
        """
        sizes = [len(words) for words in self.options()]
        wanted = [set(user[0].labels["said_likes"].split(", ")) for user in self.users]
        values = []
        for words, part in zip(self.options(), scores.split(sizes, 1), strict=True):
            spoken = [row for row, own in enumerate(wanted) if own & set(words)]
            named = [words[place] for place in part[spoken].argmax(1).tolist()]
            for word in words:
                true = [word in wanted[row] for row in spoken]
                hits = sum(found == word and right for found, right in zip(named, true, strict=True))
                if sum(true):
                    values.append(2 * hits / (sum(true) + named.count(word)))
        return float(np.mean(values)) if values else float("nan")

    def calibration(self, scores: Tensor, bins: int = 10) -> float:
        """Returns the expected calibration error of the likeliest options, 0 to 1 (Guo et al. 2017).

        `scores` are of all options, `(U, options)`, before a softmax over each attribute's. An option is right where
        it describes a picture that the user accepts.
        """
        sizes, right, sure = [len(words) for words in self.options()], [], []
        for row, true in zip(scores.split(sizes, 1), self.described.split(sizes, 1), strict=True):
            some = true.sum(1) > 0
            probability, place = row[some].softmax(1).max(1)
            sure.append(probability)
            right.append(true[some].gather(1, place[:, None])[:, 0])
        probability, hit = torch.cat(sure), torch.cat(right)
        part = (probability * bins).long().clamp(max=bins - 1)
        gaps = [(probability[part == one] - hit[part == one]).sum().abs() for one in range(bins)]
        return float(sum(gaps) / len(hit))

    def messages(self) -> list[list[str]]:
        """Returns what each user said, oldest first."""
        return [own_messages(user[0].conversation) for user in self.users]


@dataclass(frozen=True)
class MinimalPair:
    """Two messages of the same words, of which one asks for a word of a look where the other turns it down.

    Attributes:
        user: whose look has the first word.
        kind: list of sentences that they are made of, ``pairs`` or ``changes``.
        wanted: the word that each asks for.
        texts: the messages.
    """

    user: str
    kind: str
    wanted: tuple[str, str]
    texts: tuple[str, str]


def minimal_pairs(world: World, kind: str) -> list[MinimalPair]:
    """Returns a pair for each user of a split of ``words``, with its phrases."""
    phrases, found = world.data.conversations.phrases[world.split], []
    for user in world.users:
        rng = random.Random(stable_number(0, kind, user[0].user))
        words = world.data.words([Item(name, "", "") for name in user[0].labels["look_references"].split()])
        attribute = rng.choice(sorted(words))
        both = words[attribute], phrases.other_word(attribute, words[attribute], rng)
        said = [phrases.express(attribute, word, rng) for word in both]
        sentence = rng.choice(getattr(phrases, kind))
        texts = (sentence.replace(SUBJECT, first).replace(OTHER, other) for first, other in (said, said[::-1]))
        first, other = (text[0].upper() + text[1:] for text in texts)
        found.append(MinimalPair(user[0].user, kind, both, (first, other)))
    return found


def judge_pairs(pairs: Sequence[MinimalPair], options: Sequence[str], scores: Tensor) -> dict[str, list[float]]:
    """Returns 1 for each pair that is understood, else 0, by measure.

    ``both right``: in both messages the wanted word scores higher than the other; by chance a quarter of the pairs, of
    what reads words without their order none. ``ordered``: the message that asks for a word gives it the larger lead;
    by chance half, of what doesn't read order none.

    `scores` are of all `options` for the first message of each pair, then for the other of each, `(2 P, options)`.
    """
    place = {option: number for number, option in enumerate(options)}
    rows = torch.tensor([[place[word] for word in pair.wanted] for pair in pairs])
    leads = [part.gather(1, rows) for part in scores.chunk(2)]  # of the first word over the other
    first, other = (one[:, 0] - one[:, 1] for one in leads)
    found = {"both right": (first > 0) & (other < 0), "ordered": first > other}
    return {name: values.float().tolist() for name, values in found.items()}
