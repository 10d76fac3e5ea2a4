"""Rules of alpha: fixed, by the confidence of keywords, by the length of a history."""

from __future__ import annotations

import math

import pytest

from pmg.domain import Keywords
from pmg.generation.alpha import ConfidentAlpha, FixedAlpha, HistoryAlpha

SURE = Keywords(("flat", "no outline"), (math.log(0.9), math.log(0.5)))


def test_fixed_alpha_is_the_same_for_all_users():
    assert FixedAlpha(0.3)(SURE, 9) == FixedAlpha(0.3)(Keywords(()), 0) == 0.3


def test_confident_alpha_is_the_mean_probability():
    assert ConfidentAlpha(0.5)(SURE, 0) == pytest.approx(0.5 * 0.7)
    assert ConfidentAlpha(0.5)(Keywords(("flat",)), 0) == 0.5
    assert ConfidentAlpha(0.5)(Keywords(("flat",), (0.7,)), 0) == 0.5
    assert ConfidentAlpha(0.5)(Keywords(()), 9) == 0.5  # a taste may be compared with


def test_alpha_by_history_rises_from_none_to_all():
    alphas = [HistoryAlpha(0.8, half=4)(SURE, length) for length in (0, 4, 12, 10**9)]
    assert alphas == pytest.approx([0, 0.4, 0.6, 0.8])
