"""Windows of likes, splits by user, time and item, and leaks that are refused."""

from __future__ import annotations

from collections import Counter

import pytest

from pmg.data.windowing import Sample, Windows, check_splits, split_samples
from pmg.domain import Interaction, Item, PmgError

SHARES = {"train": 0.5, "validation": 0.2, "test": 0.3}


def interactions(text):
    """One interaction a letter, at times 0, 1, …; small letters are liked, capitals disliked."""
    return [
        Interaction(Item(name.lower(), name, name), "sent", time, liked=name.islower())
        for time, name in enumerate(text)
    ]


def cut(windows, text, without=""):
    """Questions as ``"history>target"``."""
    cut = windows.cut("u", interactions(text), lambda item: item.id not in without)
    return [f"{''.join(each.item.concept for each in example.history)}>{example.target.id}" for example, _ in cut]


@pytest.mark.parametrize(
    ("windows", "text", "without", "expected"),
    [
        (Windows(3), "abcde", "", ["abc>d", "bcd>e"]),
        (Windows(3), "abc", "", []),
        (Windows(2, stride=2), "abcdef", "", ["ab>c", "cd>e"]),
        (Windows(2, targets=2), "abcde", "", ["ab>c", "ab>d", "bc>d", "bc>e", "cd>e"]),
        (Windows(2), "XaYbZcd", "", ["aYb>c", "bZc>d"]),
        (Windows(2), "abcd", "c", ["ab>d", "bc>d"]),
        (Windows(2), "abcd", "cd", []),
        (Windows(2), "aba", "", ["ab>a"]),
    ],
)
def test_windows_slide_over_likes(windows, text, without, expected):
    assert cut(windows, text, without) == expected


def test_ids_of_samples_differ_and_are_fit_for_files():
    users = ["1", "1-1", "a/b", "a%2Fb", "theme:cats", ".."]
    windows, letters = Windows(2, targets=2), interactions("abcdef")
    cut = [each for user in users for each in windows.cut(user, letters, lambda item: True)]
    names = [example.id for example, _ in cut]
    assert len(set(names)) == len(names) == len(users) * 7
    assert not any("/" in name or name in (".", "..") for name in names)
    first, time = cut[0]
    assert (time, first.truth, first.user) == (2, (first.target,), "1")
    assert first.labels == {}
    assert first.target.id == "c"
    assert [example.moment for example, _ in cut[:3]] == ["0", "0", "1"]  # one history of two targets, and the next


def sample(user, target, time):
    return Sample(user, Item(target, target, target), time, 0, 0)


def look(item):
    """Items whose names begin alike are copies."""
    return item.id[:2]


MANY = [sample(f"u{n % 100}", f"{n % 70:02d}{n % 3}", n * 7 % 1000) for n in range(1000)]


@pytest.mark.parametrize("way", ["user", "time", "item"])
def test_splits_have_their_shares_and_what_is_dealt_stays_together(way):
    splits = split_samples(MANY, SHARES, way, 0, look)
    assert sum(map(len, splits.values())) == len(MANY)
    assert [len(splits[name]) / len(MANY) for name in SHARES] == pytest.approx(list(SHARES.values()), abs=0.15)
    part = {"user": lambda q: q.user, "item": lambda q: look(q.target), "time": lambda q: q.time}[way]
    owners = Counter(key for samples in splits.values() for key in {part(q) for q in samples})
    assert set(owners.values()) == {1}


def test_splits_by_user_and_item_do_not_move_when_others_come():
    for way in ("user", "item"):
        few, many = split_samples(MANY[:500], SHARES, way, 0, look), split_samples(MANY, SHARES, way, 0, look)
        assert all(sample in many[name] for name in SHARES for sample in few[name])
        assert split_samples(MANY, SHARES, way, 1, look) != many


def test_time_goes_by_quantiles_and_never_parts_equal_times():
    samples = [sample("u", str(n), time) for n, time in enumerate([9, 1, 2, 3, 4, 5, 6, 7, 8, 0])]
    splits = split_samples(samples, SHARES, "time", 0, look)
    assert {name: sorted(q.time for q in part) for name, part in splits.items()} == {
        "train": [0, 1, 2, 3, 4], "validation": [5, 6], "test": [7, 8, 9],
    }  # fmt: skip
    ties = [sample("u", str(n), time) for n, time in enumerate([1, 2, 2, 2, 2, 3])]
    assert [[q.time for q in part] for part in split_samples(ties, SHARES, "time", 0, look).values()] == [
        [1],
        [],
        [2, 2, 2, 2, 3],
    ]
    assert len(split_samples(ties, {"train": 1.0, "test": 0.0}, "time", 0, look)["train"]) == 6
    assert split_samples([], SHARES, "time", 0, look) == {"train": [], "validation": [], "test": []}


@pytest.mark.parametrize(
    ("way", "test", "message"),
    [
        (
            "user",
            sample("u1", "zz", 99),
            r"leak: an example of 'test' \(user u1, target zz\) shares 'u1' with 'train'",
        ),
        ("item", sample("u2", "aa", 99), r"leak: an example of 'test' \(user u2, .* shares 'aa' with 'train'"),
        ("item", sample("u2", "aa-copy", 99), r"target aa-copy\) shares 'aa' with 'train'"),
        ("time", sample("u2", "zz", 5), r"leak: in 'train', user u1 liked the target aa at 5, and 'test' begins at 5"),
    ],
)
def test_leaks_are_refused(way, test, message):
    with pytest.raises(PmgError, match=message):
        check_splits({"train": [sample("u1", "aa", 5)], "validation": [], "test": [test]}, way, look)


@pytest.mark.parametrize("way", ["user", "item", "time"])
def test_what_does_not_leak_passes(way):
    check_splits({"train": [sample("u1", "aa", 5)], "test": [sample("u2", "bb", 6)]}, way, look)


def test_unknown_way_to_split_is_refused():
    with pytest.raises(KeyError, match="usr"):
        split_samples(MANY, SHARES, "usr", 0, look)
