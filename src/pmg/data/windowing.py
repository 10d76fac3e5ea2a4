"""Questions from what real users did in time: a window of their likes, and the likes that came next."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from pmg.configuration.ranges import Count
from pmg.domain import Behavior, Example, Item, PmgError

LABELS = {"kind": "real", "taste": ""}  # nobody knows a real user's taste


@dataclass(frozen=True)
class Question:
    """An example in time.

    Attributes:
        example: the example; its truth is its target.
        time: when the target was liked.
    """

    example: Example
    time: int

    @property
    def sight(self) -> tuple[Item, list[Item]]:
        """The target, and everything that the history shows, liked or not."""
        return self.example.target, [behavior.item for behavior in self.example.history]


@dataclass(frozen=True)
class Windows:
    """How questions are cut from a user's behaviour.

    Attributes:
        history: likes in a window; the dislikes between them belong to it, too.
        targets: later likes that are asked for, a question each.
        stride: likes from one window to the next.

    Raises:
        PmgError: one of them is below 1.
    """

    history: Count = 5
    targets: Count = 1
    stride: Count = 1

    def __post_init__(self) -> None:
        for name in ("history", "targets", "stride"):
            if getattr(self, name) < 1:
                raise PmgError(f"data.windows.{name} must be 1 or more, got {getattr(self, name)}")

    def cut(self, user: str, behaviors: Sequence[Behavior], has_picture: Callable[[Item], bool]) -> Iterator[Question]:
        """The questions of one user, earliest window first.

        Args:
            user: their id; those of the questions begin with it, fit for file names.
            behaviors: likes and dislikes, oldest first.
            has_picture: whether an item can be asked for. Likes without a picture stay in histories, and are passed
                over on the way to the next target.
        """
        likes = [place for place, behavior in enumerate(behaviors) if behavior.liked]
        askable = [place for place in likes if has_picture(behaviors[place].item)]
        for start in range(0, len(likes) - self.history, self.stride):
            first, last = likes[start], likes[start + self.history - 1]
            history = tuple(behaviors[first : last + 1])
            after = bisect_right(askable, last)
            for number, place in enumerate(askable[after : after + self.targets]):
                target = behaviors[place].item
                name = f"{quote(user, safe='')}-{start}-{number}"
                example = Example(name, user, history, target, (target,), LABELS, moment=str(start))
                yield Question(example, behaviors[place].timestamp)
