"""Simulated users: a taste, a few topics, a noisy history, and targets of concepts that they never used."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice

from pmg.configuration.ranges import Count, Fraction, Seed
from pmg.data.emoji.catalogue import Catalogue
from pmg.data.emoji.holdout import HeldOut
from pmg.data.emoji.tastes import Taste
from pmg.domain import Example, Interaction, Item, PmgError
from pmg.seeding import stable_number

FIRST_DAY = 1_600_000_000  # histories start here, seconds since the epoch
MAX_GAP = 3 * 86_400  # seconds between two stickers, at most
TOPICS = (2, 3)  # a user's topics: at least, at most


class UserSimulation:
    """Samples users; every user depends on the seed and their own number alone.

    Args:
        train: users of the training split.
        validation: users of the validation split.
        test: users of the test split.
        targets: targets a user.
        min_history: shortest history, in items.
        max_history: longest history, in items.
        noise: share of a history outside the taste.
        seed: seed of it all.

    Raises:
        PmgError: the shortest history is longer than the longest.
    """

    def __init__(
        self, train: Count, validation: Count, test: Count, targets: Count, min_history: Count, max_history: Count,
        *, noise: Fraction, seed: Seed,
    ) -> None:  # fmt: skip
        if min_history > max_history:
            raise PmgError(
                f"data.users.min_history must be at most data.users.max_history ({max_history}), got {min_history}"
            )
        self.sizes = {"train": train, "validation": validation, "test": test}
        self.targets, self.noise, self.seed = targets, noise, seed
        self.lengths = (min_history, max_history)

    def split(
        self,
        name: str,
        index: CatalogueIndex,
        tastes: Sequence[Taste],
        users: int | None = None,
        targets: int | None = None,
    ) -> list[Example]:
        """Returns the examples of a split, user by user; users have the tastes in turn.

        Args:
            name: of the split.
            index: of the catalogue.
            tastes: of users.
            users: the first so many users; None: all.
            targets: the first so many examples of each user; None: all.
        """
        numbers = range(self.sizes[name] if users is None else users)
        return [
            example
            for number in numbers
            for example in islice(self._user(name, number, index, tastes[number % len(tastes)]), targets)
        ]

    def _user(self, split: str, number: int, index: CatalogueIndex, taste: Taste) -> Iterator[Example]:
        rng = random.Random(stable_number(self.seed, split, number))
        targets, topics = index.choose_targets(split, taste, self.targets, rng)
        history = self._history(index, taste, topics, {target.concept for target in targets}, rng)
        user = f"{split}-{number:05d}"
        for position, target in enumerate(targets):
            truth = index.truth(target.concept, taste)
            labels = {
                "taste": taste.name,
                "kind": taste.kind,
                "words": taste.words,
                "styles": ",".join(taste.styles),
            }
            yield Example(f"{user}-{position}", user, history, target, truth, labels)

    def _history(
        self, index: CatalogueIndex, taste: Taste, topics: Sequence[str], excluded: set[str], rng: random.Random
    ) -> tuple[Interaction, ...]:
        length = rng.randint(*self.lengths)
        outside = sum(rng.random() < self.noise for _ in range(length))
        outside = min(outside, (length - 1) // 3)  # the taste stays the majority, or it can't be inferred
        items = index.pick(taste, topics, excluded, length - outside, rng, fits=True)
        items += index.pick(taste, topics, excluded | {item.concept for item in items}, outside, rng, fits=False)
        rng.shuffle(items)
        time, history = FIRST_DAY + rng.randrange(MAX_GAP), []
        for item in items:
            history.append(Interaction(item, "sent", time))
            time += rng.randint(60, MAX_GAP)
        return tuple(history)


class CatalogueIndex:
    """The catalogue by concept, style and topic, from which histories and targets are sampled.

    Args:
        catalogue: items with images.
        held_out: cells that histories and training targets avoid, and of which test targets are.
    """

    def __init__(self, catalogue: Catalogue, held_out: HeldOut) -> None:
        self.held_out, self.style = held_out, catalogue.style
        self.cell = {(item.concept, catalogue.style[item.id]): item for item in catalogue.items}
        self.topic = {item.concept: item.topic for item in catalogue.items}
        self.by_topic: dict[str, list[Item]] = defaultdict(list)
        self._candidates: dict[tuple[str, str], list[str]] = {}  # by (split, taste), computed once
        for item in catalogue.items:
            if not held_out.covers(item.concept, catalogue.style[item.id]):
                self.by_topic[item.topic].append(item)

    def truth(self, concept: str, taste: Taste) -> tuple[Item, ...]:
        """Returns all images of a concept that fit a taste."""
        return tuple(self.cell[concept, style] for style in taste.styles if (concept, style) in self.cell)

    def candidates(self, split: str, taste: Taste) -> list[str]:
        """Returns concepts that may be targets: none of their cells is held out in training, all are elsewhere."""
        key = (split, taste.name)
        if key not in self._candidates:
            self._candidates[key] = [concept for concept in self._allowed(split, taste) if self.truth(concept, taste)]
        return self._candidates[key]

    def _allowed(self, split: str, taste: Taste) -> list[str]:
        if split != "train":
            return self.held_out.concepts(taste, split)
        hidden = self.held_out.covers
        return [c for c in sorted(self.topic) if not any(hidden(c, style) for style in taste.styles)]

    def choose_targets(self, split: str, taste: Taste, count: int, rng: random.Random) -> tuple[list[Item], list[str]]:
        """Samples a user's targets and two or three topics around them; fewer where `data.topics` has fewer.

        Raises:
            PmgError: the catalogue's topics leave this taste without a target.
        """
        possible = self.candidates(split, taste)
        if not possible:
            raise PmgError(f"no concept of data.topics can be a {split} target for taste '{taste.name}': add topics")
        first = rng.choice(possible)
        others = sorted(set(self.by_topic) - {self.topic[first]})
        topics = [self.topic[first], *rng.sample(others, min(rng.randint(*TOPICS) - 1, len(others)))]
        near = [concept for concept in possible if self.topic[concept] in topics and concept != first]
        chosen = [first, *rng.sample(near, min(count - 1, len(near)))]
        return [self.truth(concept, taste)[0] for concept in chosen], topics

    def pick(
        self, taste: Taste, topics: Sequence[str], excluded: set[str], count: int, rng: random.Random, fits: bool
    ) -> list[Item]:
        """Samples `count` items of different concepts from the topics, inside the taste or outside it."""
        pool = [
            item
            for topic in topics
            for item in self.by_topic[topic]
            if item.concept not in excluded and (self.style[item.id] in taste.styles) == fits
        ]
        rng.shuffle(pool)
        by_concept = {item.concept: item for item in pool}
        return list(by_concept.values())[:count]
