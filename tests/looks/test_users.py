"""Users who like looks: repeatable, in their groups, without leaks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from looks import ALL_SEEN, SHARES
from pmg.domain import PmgError
from pmg.installation import find_assets
from pmg.looks.drawings import LookData
from pmg.looks.finish_space import FinishSpace
from pmg.looks.users import LookUsers, Picture, check_look_leaks

TOPICS = [
    "food-fruit", "food-prepared", "animal-mammal", "animal-bird", "face-smiling", "tool", "clothing", "sport",
    "event", "musical-instrument", "transport-ground", "household",
]  # fmt: skip
USERS = LookUsers(60, 12, 30, 2, 4, 12, noise=0.2, several=0.25, spread=0.03, seed=0)


@pytest.fixture(scope="module")
def data():
    space = FinishSpace(**SHARES, unseen_hues=[[80, 120], [240, 280]], unseen_pairs=[["dark", "pixels"]])
    return LookData(f"{find_assets()}/drawings", TOPICS, space, ["twemoji", "noto-line"], 0)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_no_split_leaks(data, split):
    samples = USERS.samples(data, split)
    assert len(samples) == 2 * USERS.sizes[split]
    check_look_leaks(data, samples, split)


def test_groups_are_what_they_say(data):
    for sample in USERS.samples(data, "test"):
        artists = {artist for artist, _ in sample.taste.looks}
        seen = {data.space.is_seen(finish) for _, finish in sample.taste.looks}
        assert (sample.taste.group == "unseen_artist") == bool(artists & data.unseen_artists)
        assert seen == {sample.taste.group != "unseen_region"}
    assert {sample.taste.group for sample in USERS.samples(data, "train")} == {"met"}


def test_validation_and_test_share_no_cell(data):
    cells = [
        {
            (data.drawings.items[sample.target].concept, sample.taste.looks[0][0])
            for sample in USERS.samples(data, split)
        }
        for split in ("validation", "test")
    ]
    assert not cells[0] & cells[1]


def test_a_user_depends_on_their_number_alone(data):
    few, many = USERS.samples(data, "train", 5), USERS.samples(data, "train", 20)
    assert many[: len(few)] == few


def test_tastes_are_many_and_some_users_have_several(data):
    samples = USERS.samples(data, "train")
    tastes = {sample.taste for sample in samples}
    assert len(tastes) == 60
    assert 5 < sum(len(taste.looks) > 1 for taste in tastes) < 30
    assert all(abs(sum(taste.shares) - 1) < 1e-9 for taste in tastes)


def test_most_of_a_history_is_of_the_taste(data):
    inside = total = 0
    for sample in USERS.samples(data, "train"):
        artists = {artist for artist, _ in sample.taste.looks}
        inside += sum(data.drawings.artists[picture.row] in artists for picture in sample.history)
        total += len(sample.history)
        assert 4 <= len(sample.history) <= 12
    assert inside / total > 0.7


def test_the_truth_shows_the_target_at_the_looks_centres(data):
    for sample in USERS.samples(data, "test"):
        assert sample.truth
        assert {data.drawings.items[p.row].concept for p in sample.truth} == {
            data.drawings.items[sample.target].concept
        }
        assert {p.finish for p in sample.truth} <= {finish for _, finish in sample.taste.looks}


def test_leaks_are_found(data):
    sample = USERS.samples(data, "test", 1)[0]
    held_out = Picture(int(data.rows("test")[0]), sample.taste.looks[0][1])
    with pytest.raises(PmgError, match="held-out drawing"):
        check_look_leaks(data, [replace(sample, history=(held_out,))], "test")
    with pytest.raises(PmgError, match="concept of their history"):
        check_look_leaks(data, [replace(sample, history=(Picture(sample.target, held_out.finish),))], "test")
    with pytest.raises(PmgError, match="belongs to"):
        check_look_leaks(data, [sample], "validation")


def test_the_control_draws_the_same_finishes_by_another_artist(data):
    """Tastes, targets and truths stay, so do finishes, their order, and the pictures outside the taste."""
    samples = USERS.samples(data, "test", drawn_by="other")
    check_look_leaks(data, samples, "test")
    for own, other in zip(USERS.samples(data, "test"), samples, strict=True):
        assert replace(other, history=own.history) == own
        artists = {artist for artist, _ in own.taste.looks}
        for a, b in zip(own.history, other.history, strict=True):
            assert a.finish == b.finish
            liked = data.drawings.artists[a.row] in artists
            assert (data.drawings.artists[b.row] not in artists) if liked else a == b
        concepts = [data.drawings.items[picture.row].concept for picture in other.history]
        assert len(concepts) == len(set(concepts))


def test_too_few_drawings_for_a_history_name_the_way_out():
    few = LookData(f"{find_assets()}/drawings", ["food-fruit"], ALL_SEEN, ["twemoji", "noto-line"], 0)
    users = LookUsers(60, 12, 30, 1, 30, 30, noise=0.2, several=0.0, spread=0.03, seed=0)
    with pytest.raises(PmgError, match=r"no drawing by .* beside .* add topics, or lower data.users.max_history"):
        users.samples(few, "train")
