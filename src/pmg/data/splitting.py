"""Deals questions into splits by user, by time or by item, and checks that nothing leaks from one into another."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from pmg.configuration.instantiate import nearest
from pmg.data.windowing import Question
from pmg.domain import Item, PmgError
from pmg.seeding import stable_number

SPLIT_BY = ("user", "time", "item")
Look = Callable[[Item], str]  # equal for items that are one picture
Dealt = dict[str, list[Question]]


def check_split_by(split_by: str) -> None:
    """Checks the name of a way to split.

    Raises:
        PmgError: there is no such way.
    """
    if split_by not in SPLIT_BY:
        raise PmgError(f"data.split_by: '{split_by}' is none of {', '.join(SPLIT_BY)}{nearest(split_by, SPLIT_BY)}")


def by_hash(shares: Mapping[str, float], *parts: str | int) -> str:
    """The split of what `parts` name: it depends on them alone, so that nothing moves when others come or go."""
    place, end = stable_number(*parts) % 10**6 / 10**6, 0.0
    for name, share in shares.items():
        end += share
        if place < end:
            return name
    return name


def deal(questions: Sequence[Question], shares: Mapping[str, float], split_by: str, seed: int, look: Look) -> Dealt:
    """Deals questions into splits.

    Args:
        questions: of all users.
        shares: of each split; ``time`` fills them in this order.
        split_by: ``user``: all questions of a user lie in one split; ``time``: the earliest targets train, the latest
            are for the last split; ``item``: all questions for a target, and for a copy of it, lie in one split.
        seed: of the hash.
        look: names an item's picture.

    Raises:
        PmgError: the splits leak.
    """
    starts = _starts(sorted(question.time for question in questions), shares)
    names, dealt = list(shares), {name: [] for name in shares}
    for question in questions:
        if split_by == "time":
            name = names[bisect_right(starts, question.time) - 1]
        elif split_by == "item":
            name = by_hash(shares, seed, "item", look(question.example.target))
        else:
            name = by_hash(shares, seed, "user", question.example.user)
        dealt[name].append(question)
    check_dealt(dealt, split_by, look)
    return dealt


def _starts(times: Sequence[int], shares: Mapping[str, float]) -> list[float]:
    """When each split begins: the quantile of what lies before it. Equal times are never parted."""
    starts, before = [], 0.0
    for share in shares.values():
        place = round(before * len(times))
        starts.append(times[place] if place < len(times) else float("inf"))
        before += share
    return starts


def check_dealt(dealt: Mapping[str, Sequence[Question]], split_by: str, look: Look) -> None:
    """Refuses splits that leak.

    Raises:
        PmgError: a user in two splits (``user``), a target or its copy in two splits (``item``), or a question that
            is not older than all of the next split (``time``).
    """
    if split_by == "time":
        _check_time(dealt)
    else:
        _check_owners(dealt, (lambda q: q.example.user) if split_by == "user" else (lambda q: look(q.example.target)))


def _check_time(dealt: Mapping[str, Sequence[Question]]) -> None:
    filled = [(name, questions) for name, questions in dealt.items() if questions]
    for (name, earlier), (later_name, later) in pairwise(filled):
        last, first = max(earlier, key=lambda q: q.time), min(later, key=lambda q: q.time)
        if last.time >= first.time:
            raise PmgError(
                f"leak: {name} example {last.example.id} asks for what was liked at {last.time}, "
                f"'{later_name}' begins at {first.time}"
            )


def _check_owners(dealt: Mapping[str, Sequence[Question]], key: Callable[[Question], str]) -> None:
    owner: dict[str, str] = {}
    for name, questions in dealt.items():
        for question in questions:
            if owner.setdefault(key(question), name) != name:
                raise PmgError(
                    f"leak: {name} example {question.example.id} (user {question.example.user}, target "
                    f"{question.example.target.id}) shares '{key(question)}' with '{owner[key(question)]}'"
                )
