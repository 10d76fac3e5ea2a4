"""Splits samples by user, by time or by item, and checks that nothing leaks from one split into another."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from pmg.configuration.instantiate import nearest
from pmg.data.windowing import Sample
from pmg.domain import Item, PmgError
from pmg.seeding import stable_number

SPLIT_BY = ("user", "time", "item")
ImageKey = Callable[[Item], str]  # equal for items with the same image
Splits = dict[str, list[Sample]]


def check_split_by(split_by: str) -> None:
    """Checks that there is such a way to split, else raises PmgError."""
    if split_by not in SPLIT_BY:
        raise PmgError(f"data.split_by: '{split_by}' is none of {', '.join(SPLIT_BY)}{nearest(split_by, SPLIT_BY)}")


def split_by_hash(shares: Mapping[str, float], *parts: str | int) -> str:
    """Returns the split of what `parts` identify: it depends on them alone, not on which others there are."""
    place, end = stable_number(*parts) % 10**6 / 10**6, 0.0
    for name, share in shares.items():
        end += share
        if place < end:
            return name
    return name


def split_samples(
    samples: Sequence[Sample], shares: Mapping[str, float], split_by: str, seed: int, image_key: ImageKey
) -> Splits:
    """Returns the samples of each split.

    Args:
        samples: of all users.
        shares: share of each split; ``time`` fills them in this order.
        split_by: ``user``: all samples of a user are in one split; ``time``: the earliest targets are in the first
            split, the latest in the last; ``item``: all samples of a target, and of a copy of it, are in one split.
        seed: of the hash.
        image_key: returns equal text for items with the same image.

    Raises:
        PmgError: the splits leak.
    """
    starts = _starts(sorted(sample.time for sample in samples), shares)
    names = list(shares)
    splits: Splits = {name: [] for name in shares}
    for sample in samples:
        if split_by == "time":
            name = names[bisect_right(starts, sample.time) - 1]
        elif split_by == "item":
            name = split_by_hash(shares, seed, "item", image_key(sample.target))
        else:
            name = split_by_hash(shares, seed, "user", sample.user)
        splits[name].append(sample)
    check_splits(splits, split_by, image_key)
    return splits


def _starts(times: Sequence[int], shares: Mapping[str, float]) -> list[float]:
    """Returns the first time of each split: the quantile of the shares before it. Equal times share a split."""
    starts, before = [], 0.0
    for share in shares.values():
        place = round(before * len(times))
        starts.append(times[place] if place < len(times) else float("inf"))
        before += share
    return starts


def check_splits(splits: Mapping[str, Sequence[Sample]], split_by: str, image_key: ImageKey) -> None:
    """Checks that no sample leaks from one split into another, else raises PmgError.

    Leaks are a user in two splits (``user``), a target or its copy in two splits (``item``), or a sample that is not
    older than all of the next split (``time``).
    """
    if split_by == "time":
        _check_time(splits)
    elif split_by == "user":
        _check_keys(splits, lambda sample: sample.user)
    else:
        _check_keys(splits, lambda sample: image_key(sample.target))


def _check_time(splits: Mapping[str, Sequence[Sample]]) -> None:
    filled = [(name, samples) for name, samples in splits.items() if samples]
    for (name, earlier), (later_name, later) in pairwise(filled):
        last, first = max(earlier, key=lambda s: s.time), min(later, key=lambda s: s.time)
        if last.time >= first.time:
            raise PmgError(
                f"leak: in '{name}', user {last.user} liked the target {last.target.id} at {last.time}, and "
                f"'{later_name}' begins at {first.time}"
            )


def _check_keys(splits: Mapping[str, Sequence[Sample]], key: Callable[[Sample], str]) -> None:
    owner: dict[str, str] = {}
    for name, samples in splits.items():
        for sample in samples:
            if owner.setdefault(key(sample), name) != name:
                raise PmgError(
                    f"leak: an example of '{name}' (user {sample.user}, target {sample.target.id}) shares "
                    f"'{key(sample)}' with '{owner[key(sample)]}'"
                )
