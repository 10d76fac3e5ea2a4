"""Samples from real users' interactions: a window of their likes, and the likes that follow it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from sys import intern
from typing import Any
from urllib.parse import quote

from pmg.configuration.ranges import Count
from pmg.domain import Example, Interaction, Item


@dataclass(frozen=True, slots=True)
class Sample:
    """What splits need to know of an example.

    Attributes:
        user: the user's id.
        target: the item.
        time: when the target was liked.
        number: of the user, from 0.
        place: of the example among the user's, from 0.
    """

    user: str
    target: Item
    time: int
    number: int
    place: int


@dataclass
class CutExamples(Sequence[Example]):
    """Examples that are cut from their users' interactions when they are read: memory holds one user's at a time.

    Attributes:
        cut: returns all examples of the user of a number.
        samples: one an example.
    """

    cut: Callable[[int], Sequence[Example]]
    samples: Sequence[Sample]
    _latest: tuple[int, Sequence[Example]] = field(default=(-1, ()), init=False, repr=False)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        sample = self.samples[index]
        if self._latest[0] != sample.number:
            self._latest = sample.number, self.cut(sample.number)
        return self._latest[1][sample.place]


@dataclass(frozen=True, slots=True)
class Windows:
    """Sliding windows over a user's interactions.

    Attributes:
        history: likes in a window; the dislikes between them belong to it, too.
        targets: later likes that are targets, each of one sample.
        stride: likes from one window to the next.
    """

    history: Count = 5
    targets: Count = 1
    stride: Count = 1

    def cut(
        self, user: str, interactions: Sequence[Interaction], has_image: Callable[[Item], bool]
    ) -> Iterator[tuple[Example, int]]:
        """Yields the examples of a user's interactions, earliest window first, each with the time of its target.

        Their ids begin with the user's. Likes without an image stay in histories and are no targets.
        """
        likes = [place for place, interaction in enumerate(interactions) if interaction.liked]
        possible = [place for place in likes if has_image(interactions[place].item)]
        for start in range(0, len(likes) - self.history, self.stride):
            first, last = likes[start], likes[start + self.history - 1]
            history = tuple(interactions[first : last + 1])
            after = bisect_right(possible, last)
            for number, place in enumerate(possible[after : after + self.targets]):
                target = interactions[place].item
                name = f"{quote(user, safe='')}-{start}-{number}"
                example = Example(name, user, history, target, (target,), moment=intern(str(start)))
                yield example, interactions[place].timestamp
