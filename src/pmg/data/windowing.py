"""Samples from real users' interactions: a window of their likes, and the likes that follow it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from sys import intern
from urllib.parse import quote

from pmg.configuration.ranges import Count
from pmg.domain import Example, Interaction, Item


@dataclass(frozen=True, slots=True)
class Sample:
    """An example, whose truth is its target, with the time when the target was liked."""

    example: Example
    time: int


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
    ) -> Iterator[Sample]:
        """Yields the samples of a user's interactions, earliest window first; their ids begin with the user's.

        Likes without an image stay in histories and are no targets.
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
                yield Sample(example, interactions[place].timestamp)
