"""Real users with pictures: what they are asked for, and what is too near to what they have seen."""

from __future__ import annotations

import gc
import logging
import math
import random
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageDraw

import photos
from pmg.data.duplicates import Hashes, NearCopies
from pmg.data.feedback import Feedback
from pmg.data.image_shards import Packing
from pmg.data.interactions import InteractionData
from pmg.data.prepared_tables import Drops, Tables, prepare
from pmg.data.windowing import Windows
from pmg.domain import Example, PmgError

noise = partial(photos.noise, size=(96, 96))
SHARES = {"train": 0.5, "validation": 0.2, "test": 0.3}


def seed(name):
    return 10 + sum(name.encode())


@pytest.fixture
def prepared(tmp_path):
    """Prepares users' likes; returns a data set with other settings. Items without a picture end with "-"."""

    def build(likes, pictures, facts=None, **settings):
        names = sorted({item for items in likes.values() for item in items})
        (tmp_path / "published").mkdir()
        paths = {name: tmp_path / "published" / f"{name}.jpg" for name in names if not name.endswith("-")}
        for name, path in paths.items():
            pictures[name].save(path) if name in pictures else noise(seed(name)).save(path)
        items = pd.DataFrame({"id": names, "concept": names, "title": names, "topic": ""})
        items = items.assign(keywords=[[] for _ in names], facts=[(facts or {}).get(name, {}) for name in names])
        rows = pd.DataFrame(
            [
                {"user": user, "item": item, "action": "sent", "rating": np.nan, "timestamp": time}
                for user, liked in likes.items()
                for time, item in enumerate(liked)
            ]
        )
        tables = Tables(items, rows, Drops(), {}, paths)
        prepare(lambda: tables, str(tmp_path / "made"), pictures=Packing(32), max_missing_pictures=0.9)
        chosen = {"shares": {"test": 1.0}, "min_likes": 1, "seed": 0, "windows": Windows(2)} | settings
        return InteractionData("mine", str(tmp_path / "made"), Feedback(), **chosen)

    return build


def asked(data, *arguments):
    """Questions as ``"history>target"``, in the order of the alphabet."""
    examples = data.examples("test", *arguments)
    return sorted("".join(item.id for item in example.liked) + ">" + example.target.id for example in examples)


def test_examples_are_windows_with_their_pictures(prepared):
    data = prepared({"u": ["a", "b", "c", "d"], "v": ["a", "b", "d"]}, {})
    assert asked(data) == ["ab>c", "ab>d", "bc>d"]
    assert asked(data, 1) in (["ab>c", "bc>d"], ["ab>d"])
    assert asked(data, None, 1) == ["ab>c", "ab>d"]
    example = next(example for example in data.examples("test") if example.target.id == "c")
    pixels = data.images.pixels(data.images.rows(example.truth))
    expected = torch.tensor(np.asarray(noise(seed("c")).resize((32, 32)))).permute(2, 0, 1) / 127.5 - 1
    assert (pixels[0] - expected).abs().mean() < 0.05


@pytest.mark.ci
@pytest.mark.slow
def test_examples_are_cut_when_they_are_read(prepared):
    def count():
        """Examples that are in memory."""
        gc.collect()
        return sum(isinstance(each, Example) for each in gc.get_objects())

    before = count()
    examples = prepared({f"u{number}": ["a", "b", "c", "d"] for number in range(50)}, {}).examples("test")
    assert len(list(examples)) == len({example.id for example in examples}) == len(examples) == 100
    assert count() - before <= 2  # of one user
    assert examples[10:13] == [examples[10], examples[11], examples[-88]]
    assert examples[1].user == examples[0].user != examples[2].user
    with pytest.raises(IndexError):
        examples[100]


def test_near_copies_of_the_history_are_not_asked_for(prepared, caplog):
    photo = noise(1)
    copies = {"a": photo, "b": photo.resize((60, 60)), "c": noise(2)}
    data = prepared({"u": ["a", "c", "b", "d"]}, copies)
    with caplog.at_level(logging.INFO):
        assert asked(data) == ["cb>d"]
    assert "1 of 2 examples left out: the target's picture is a near copy" in caplog.text
    assert "data.duplicates.bits and .colour" in caplog.text
    assert data.images.has(data.item["b"])
    assert data.describe() == {
        "titles": "4 for 4 items (what each shows, without brand)",
        "actions": "sent 4 (like)", "users with enough likes": "1 of 1 (data.min_likes=1)", "examples": "test 1",
    }  # fmt: skip


def test_a_split_without_examples_is_named(prepared, caplog):
    describe = prepared({"u": ["a"]}, {}).describe()
    assert describe["examples"] == "test 0"
    assert "no example for test" in caplog.text
    assert "data.min_likes" in caplog.text


def test_copies_may_be_kept(prepared):
    photo = noise(1)
    data = prepared({"u": ["a", "c", "b"]}, {"a": photo, "b": photo, "c": noise(2)}, duplicates=None)
    assert asked(data) == ["ac>b"]
    key = Hashes(data.items, None).image_key  # by which copies stay in one split
    assert key(data.item["a"]) == key(data.item["b"]) != key(data.item["c"])


def test_the_last_thing_done_with_an_item_counts(prepared):
    """Looked at, ordered, and another one in between: one like of each, at its last time."""
    data = prepared({"u": ["a", "b", "a", "c", "a", "d"]}, {})
    assert [interaction.timestamp for interaction in next(data.users()).interactions] == [1, 3, 4, 5]
    assert asked(data) == ["bc>a", "ca>d"]


def test_a_rating_counts_whatever_else_happened_at_that_time(prepared):
    data = prepared({"u": ["a", "b"]}, {})

    def last(*rows):
        found = data._interactions([("u", item, action, rating, time) for item, action, rating, time in rows])
        return [(one.item.id, one.liked) for one in found]

    assert last(("a", "rated", 1.0, 5), ("a", "sent", math.nan, 5)) == [("a", False)]
    assert last(("a", "sent", math.nan, 5), ("a", "rated", 1.0, 5)) == [("a", False)]
    assert last(("a", "rated", 5.0, 1), ("b", "sent", math.nan, 2), ("a", "rated", 3.0, 3)) == [("b", True)]


def mug(colour):
    image = Image.new("RGB", (96, 96), "white")
    pen = ImageDraw.Draw(image)
    pen.rounded_rectangle((20, 24, 70, 80), 8, fill=colour)
    pen.ellipse((60, 34, 88, 68), outline=colour, width=6)
    return image


def test_a_thing_of_another_colour_is_no_copy(prepared):
    shop = {"a": mug("red"), "b": mug("blue"), "c": mug("darkorange"), "d": mug("black"), "e": mug("grey")}
    data = prepared({"u": ["a", "b", "c", "d", "e"]}, shop)
    assert asked(data) == ["ab>c", "bc>d", "cd>e"]
    assert len(set(data.items["phash"])) < len(shop)


def test_copies_of_another_size_quality_or_crop_are_copies(prepared, tmp_path):
    red = mug("red")
    red.save(tmp_path / "strong.jpg", quality=30)
    copies = {
        "a": red, "b": red.resize((24, 24)), "c": Image.open(tmp_path / "strong.jpg"), "d": red.crop((2, 2, 94, 94)),
    }  # fmt: skip
    assert asked(prepared({"u": ["a", "x", "b", "c", "d", "y"]}, copies)) == ["cd>y"]


def test_items_without_a_picture_stay_in_histories_and_are_no_targets(prepared):
    data = prepared({"u": ["a", "x-", "y-", "b", "z-"]}, {})
    assert asked(data) == ["ax->b", "x-y->b"]
    assert not data.images.has(data.item["x-"])


@pytest.mark.parametrize("way", ["user", "time", "item"])
def test_every_sample_is_in_one_split(prepared, way):
    chance = np.random.default_rng(0)
    names = [chr(97 + n) for n in range(20)]
    likes = {f"u{n}": [names[k] for k in chance.permutation(20)[:8]] for n in range(30)}
    data = prepared(likes, {}, shares=SHARES, split_by=way, duplicates=NearCopies(bits=0))
    found = {split: data.examples(split) for split in SHARES}
    ids = [example.id for examples in found.values() for example in examples]
    assert len(ids) == len(set(ids)) == 30 * 6
    if way == "item":
        targets = [{example.target.id for example in examples} for examples in found.values()]
        assert sum(map(len, targets)) == len(set.union(*targets))


def test_fewer_users_are_the_first_of_more_and_no_alphabetical_sample(prepared):
    data = prepared({f"u{n:02d}": ["a", "b", "c"] for n in range(20)}, {})
    users = [example.user for example in data.examples("test")]
    assert [example.user for example in data.examples("test", 7)] == users[:7]
    assert users != sorted(users)
    data.seed = 1
    assert [example.user for example in data.examples("test")] != users


def test_what_can_not_be_asked_is_refused(prepared):
    data = prepared({"u": ["a", "b", "c"]}, {}, shares={"test": 1.0, "train": 0.0})
    with pytest.raises(PmgError, match=r"has 1 users, 2 were requested: lower split_sizes\.test"):
        data.examples("test", 2)
    with pytest.raises(PmgError, match=r"no user of the split 'train' has 2 likes and a later one with a picture"):
        data.examples("train")
    with pytest.raises(PmgError, match=r"no split 'tset'; did you mean 'test'\?"):
        data.examples("tset")


def test_groups_of_pictures_share_a_look_and_start_in_their_split(prepared):
    names = [f"i{number}" for number in range(60)]
    likes = {f"u{first}": names[first : first + 6] for first in range(0, 60, 6)}
    facts = {name: {"glaze": "red" if number % 2 else "blue"} for number, name in enumerate(names)}
    data = prepared(likes, {}, facts, look="glaze", shares=SHARES)
    train, held_out = (data.rows(split).tolist() for split in ("train", "validation"))
    assert sorted([*train, *held_out]) == list(range(60))
    assert 0 < len(held_out) < 10
    for split in ("train", "validation"):
        for number in range(8):
            rows, pictures = data.draw_group(split, 4, random.Random(number))
            assert pictures.shape == (4, 3, 32, 32)
            assert len(set(rows)) == 4
            assert len({data.picture_items[row].facts["glaze"] for row in rows}) == 1
            assert set(rows[1:]) <= set(train)
            assert rows[0] in (train if split == "train" else held_out)
    data.look, user_of = None, {name: user for user, liked in likes.items() for name in liked}
    del data._looks
    groups = [data.draw_group("train", 4, random.Random(number))[0] for number in range(20)]
    users = [{user_of[data.picture_items[row].id] for row in rows} for rows in groups]
    assert all(len(one) == 1 for one in users)
    assert set.union(*users) <= {line.user for line in data.timelines("train")} < set(likes)
    data.look = "shape"
    del data._looks
    with pytest.raises(PmgError, match=r"data.look=shape: no value has 4 pictures"):
        data.draw_group("train", 4, random.Random(0))
