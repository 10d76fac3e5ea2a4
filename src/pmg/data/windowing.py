"""Samples of real users, windows of their likes and the likes that follow, and their splits, which share nothing."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from sys import intern
from typing import Any, Literal
from urllib.parse import quote

from pmg.configuration.ranges import Count
from pmg.domain import Example, Interaction, Item, PmgError
from pmg.seeding import stable_number

SplitBy = Literal["user", "time", "item"]
ImageKey = Callable[[Item], str]  # equal for items with the same image


@dataclass(frozen=True, slots=True)
class Sample:
    """What splits need to know of an example: when its target was liked, and where to find it.

    `user_index` is the user's place in the prepared table, `place` the example's among the user's; both from 0.
    """

    user: str
    target: Item
    time: int
    user_index: int
    place: int


@dataclass
class CutExamples(Sequence[Example]):
    """Examples of `samples`, cut from their users' interactions when they are read: memory holds one user's at a time.

    `cut` returns what `Windows.cut` yields for the user at a place in the prepared table.
    """

    cut: Callable[[int], Sequence[tuple[Example, int]]]
    samples: Sequence[Sample]
    _latest: tuple[int, Sequence[tuple[Example, int]]] = field(default=(-1, ()), init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        sample, latest = self.samples[index], self._latest  # of which another thread may make another user's
        if latest[0] != sample.user_index:
            self._latest = latest = sample.user_index, self.cut(sample.user_index)
        return latest[1][sample.place][0]


@dataclass(frozen=True, slots=True)
class Windows:
    """Sliding windows of `history` likes and the dislikes between them, `stride` likes apart.

    The next `targets` likes behind a window are targets, each of one sample.
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


def split_by_hash(shares: Mapping[str, float], *parts: str | int) -> str:
    """Returns the split of what `parts` identify: it depends on them alone, not on which others there are."""
    place, ends = stable_number(*parts) % 10**6 / 10**6, accumulate(shares.values())
    return next((name for name, end in zip(shares, ends, strict=True) if place < end), [*shares][-1])


def split_samples(
    samples: Sequence[Sample], shares: Mapping[str, float], split_by: SplitBy, seed: int, image_key: ImageKey
) -> dict[str, list[Sample]]:
    """Returns the samples of each split, which have these `shares`; PmgError if the splits leak.

    By ``user`` all samples of a user are in one split; by ``time`` the earliest targets are in the first split, the
    latest in the last; by ``item`` all samples of a target, and of a copy of it, are in one split. `seed` is of the
    hash; `image_key` returns equal text for items with the same image.
    """
    times = sorted(sample.time for sample in samples)
    places = [round(before * len(times)) for before in accumulate(shares.values(), initial=0.0)]
    # the first time of each split is the quantile of the shares before it: equal times share a split
    starts = [times[place] if place < len(times) else float("inf") for place in places[:-1]]
    names, shared = list(shares), _shared(image_key)
    splits: dict[str, list[Sample]] = {name: [] for name in shares}
    for sample in samples:
        if split_by == "time":
            name = names[bisect_right(starts, sample.time) - 1]
        else:
            name = split_by_hash(shares, seed, split_by, shared[split_by](sample))
        splits[name].append(sample)
    check_splits(splits, split_by, image_key)
    return splits


def check_splits(splits: Mapping[str, Sequence[Sample]], split_by: SplitBy, image_key: ImageKey) -> None:
    """Checks that no sample leaks from one split into another, else raises PmgError.

    Leaks are a user in two splits (``user``), a target or its copy in two splits (``item``), or a sample that is not
    older than all of the next split (``time``).
    """
    if split_by == "time":
        _check_time(splits)
        return
    key = _shared(image_key)[split_by]
    owner: dict[str, str] = {}
    for name, samples in splits.items():
        for sample in samples:
            if owner.setdefault(key(sample), name) != name:
                raise PmgError(
                    f"leak: an example of '{name}' (user {sample.user}, target {sample.target.id}) shares "
                    f"'{key(sample)}' with '{owner[key(sample)]}'"
                )


def _shared(image_key: ImageKey) -> dict[str, Callable[[Sample], str]]:
    """Returns what the samples of one split may share, and those of two may not."""
    return {"user": lambda sample: sample.user, "item": lambda sample: image_key(sample.target)}


def _check_time(splits: Mapping[str, Sequence[Sample]]) -> None:
    filled = [(name, samples) for name, samples in splits.items() if samples]
    for (name, earlier), (later_name, later) in pairwise(filled):
        last, first = max(earlier, key=lambda s: s.time), min(later, key=lambda s: s.time)
        if last.time >= first.time:
            raise PmgError(
                f"leak: in '{name}', user {last.user} liked the target {last.target.id} at {last.time}, and "
                f"'{later_name}' begins at {first.time}"
            )
