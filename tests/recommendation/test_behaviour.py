"""Likes cut in time, and the data set of pairs of users and recommended items."""

from __future__ import annotations

import pytest

from likes import timeline
from pmg.domain import PmgError
from pmg.recommendation.behaviour import Behaviour
from pmg.recommendation.pairs import CANDIDATES, EVERYBODY, Candidates, PairData, read_candidates, write_candidates
from pmg.runs.content import digest_content, names_content


def test_the_last_likes_are_foreseen_and_those_before_them_choose():
    found = Behaviour.cut([timeline("u", "abcdefghij", disliked="z")], 0.1, 0.2)
    assert found.train == {"u": tuple("abcdefg")}
    assert (found.validation, found.test) == ({"u": ("h",)}, {"u": ("i", "j")})
    assert set(found.items) == set("abcdefghij")  # what nobody likes is not recommended


def test_what_is_liked_twice_counts_once_and_few_likes_are_learned_from():
    found = Behaviour.cut([timeline("u", "abacb"), timeline("v", "ab")], 0.1, 0.2)
    assert found.train == {"u": ("a",), "v": ("a", "b")}
    assert (found.validation, found.test) == ({"u": ("b",)}, {"u": ("c",)})


@pytest.mark.parametrize("shares", [(0.1, 0.85), (0.5, 0.45), (0.0, 0.0)])
def test_each_part_has_a_like_whatever_the_shares(shares):
    found = Behaviour.cut([timeline("u", "abc"), timeline("v", "abcde")], *shares)
    for user, likes in (("u", "abc"), ("v", "abcde")):
        parts = [part[user] for part in (found.train, found.validation, found.test)]
        assert all(parts)
        assert "".join("".join(part) for part in parts) == likes


def test_popular_items_are_those_of_most_users():
    lines = [timeline(f"u{number}", ["b", "a", f"x{number}", f"y{number}"]) for number in range(5)]
    found = Behaviour.cut([*lines, timeline("w", ["b"])], 0.1, 0.2)
    assert found.popular(2) == ("b", "a")
    assert found.known == {"a", "b"}


@pytest.mark.parametrize(
    ("lines", "shares", "message"),
    [
        ([timeline("u", "ab")], (0.1, 0.2), "none of 1 users likes three items"),
        ([timeline("u", "abc")], (0.5, 0.5), "must be below 1, got 1"),
    ],
)
def test_what_cannot_be_cut_is_refused(lines, shares, message):
    with pytest.raises(PmgError, match=message):
        Behaviour.cut(lines, *shares)


class Shop:
    """Four items that one user likes."""

    images = "images"

    def timelines(self, split):
        return [timeline("u", "abcd")] if split == "train" else []


@pytest.fixture
def pairs(tmp_path):
    found = {
        "u": Candidates(["a", "b", "c"], ["d", "a"], [0.5, 0.25], ["d"]),
        EVERYBODY: Candidates(["a"], list("abcd"), [0.0] * 4, []),
    }
    write_candidates(tmp_path, found)
    return PairData(Shop(), str(tmp_path / CANDIDATES), history=2)


def test_each_user_is_paired_with_what_is_recommended(pairs, tmp_path):
    examples = pairs.examples("test")
    assert [(one.id, one.target.id, one.truth[0].id) for one in examples[:2]] == [("u-0", "d", "d"), ("u-1", "a", "a")]
    assert [item.id for item in examples[0].liked] == ["b", "c"]  # the latest two
    assert [one.target.id for one in examples[2:]] == list("abcd")
    assert len(pairs.examples("test", users=1, targets=1)) == 1
    assert read_candidates(tmp_path / CANDIDATES)["u"].scores == [0.5, 0.25]


def test_other_candidates_make_another_run(pairs, tmp_path):
    place = {"data.file": pairs.file}
    assert names_content(*place)
    before = digest_content(place)
    write_candidates(tmp_path, {"u": Candidates(["a"], ["b"], [1.0], [])})
    assert before != digest_content(place) != {}


def test_pairs_of_other_data_or_no_run_are_refused(pairs, tmp_path):
    write_candidates(tmp_path, {"u": Candidates(["a"], ["z"], [1.0], [])})
    with pytest.raises(PmgError, match="has no item 'z', which"):
        pairs.examples("test")
    with pytest.raises(PmgError, match="no split 'train'"):
        pairs.examples("train")
    (tmp_path / "candidates.json").write_text("[]")
    with pytest.raises(PmgError, match=r"candidates\.json can't be read"):
        pairs.examples("test")
