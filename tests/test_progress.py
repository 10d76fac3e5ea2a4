"""Progress of long work in a log."""

from __future__ import annotations

import logging

import pytest

from pmg import progress
from pmg.progress import describe_progress, track


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (20_800, "own: 2,600 of 20,800 (13 a second, 23 min left)"),
        (None, "own: 2,600 (13 a second)"),
    ],
)
def test_a_line_says_what_is_done_and_how_long_the_rest_takes(total, expected):
    assert describe_progress("own", 2_600, total, 200.0) == expected


def test_elements_count_by_their_size_and_are_told_in_a_log(monkeypatch, caplog):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    caplog.set_level(logging.INFO, "pmg.progress")
    assert list(track(["ab", "cde", "f"], "letters", size=len)) == ["ab", "cde", "f"]
    told = [record.getMessage().split(" (")[0] for record in caplog.records]
    assert told == ["letters: 2 of 6", "letters: 5 of 6"]  # the end is told by what follows
    caplog.clear()
    assert list(track(iter("ab"), "letters")) == ["a", "b"]
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == ["letters: 1", "letters: 2"]
