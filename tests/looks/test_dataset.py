"""The data set of looks: examples, and images that an item's id determines."""

from __future__ import annotations

import random

import pytest
import torch

from looks import FEW_TOPICS, SHARES
from pmg.configuration.instantiate import instantiate
from pmg.domain import Item, PmgError
from pmg.installation import find_assets
from pmg.looks.dataset import FinishedImages, LookDataset
from pmg.looks.finish_space import FinishSpace
from pmg.looks.finishes import Finish, decode_finish, encode_finish
from pmg.looks.users import LookUsers

SPACE = FinishSpace(**SHARES, unseen_hues=[[80, 120], [240, 280]], unseen_pairs=[["dark", "pixels"]])
USERS = LookUsers(6, 3, 6, 2, 4, 6, noise=0.2, several=0.5, spread=0.03, seed=0)


@pytest.fixture(scope="module")
def data():
    return LookDataset(f"{find_assets()}/drawings", FEW_TOPICS, SPACE, ["twemoji", "noto-line"], 0, USERS)


def test_examples_are_labelled_by_every_group(data):
    examples = data.examples("test")
    assert len(examples) == len({example.id for example in examples}) == 12
    assert {example.labels["group"] for example in examples} == {"met", "unseen_region", "unseen_artist"}
    assert all(set(example.labels) >= {*data.groups, data.taste_label} for example in examples)
    assert data.examples("test", 2, 1) == [examples[0], examples[2]]
    assert not any(example.disliked for example in examples)
    assert len({example.labels["look"] for example in examples}) == 6  # one a user


def test_pictures_are_those_of_drawing_and_finish(data):
    (sample,) = USERS.samples(data, "test", 1, 1)
    (example,) = data.examples("test", 1, 1)
    assert example.target == example.truth[0]
    for items, pictures in ((example.liked, sample.history), (example.truth, sample.truth)):
        expected = data.drawings.pictures(torch.tensor([p.row for p in pictures]), [p.finish for p in pictures])
        assert torch.equal(data.images.pixels(data.images.rows(items)), expected)


def test_an_id_alone_determines_the_picture(data):
    (example,) = data.examples("train", 1, 1)
    other = FinishedImages(data.drawings)
    items = [*reversed(example.liked), *example.truth]
    assert torch.equal(other.pixels(other.rows(items)), data.images.pixels(data.images.rows(items)))
    plain = data.drawings.items[3]
    assert torch.equal(other.pixels(other.rows([plain])), data.drawings.pictures(torch.tensor([3]), [Finish()]))


@pytest.mark.parametrize("name", ["nothing", "nothing~AAAA", "{0}~AAAA", "{0}~\N{SNOWMAN}"])
def test_foreign_items_have_no_picture(data, name):
    item = Item(name.format(data.drawings.items[0].id), "", "")
    assert not data.images.has(item)
    with pytest.raises(PmgError, match="is no drawing of the catalogue"):
        data.images.rows([item])


def test_encoded_finishes_keep_every_number():
    rng = random.Random(0)
    for finish in (Finish(), *(SPACE.sample(rng) for _ in range(20))):
        code = encode_finish(finish)
        assert encode_finish(decode_finish(code)) == code
        assert decode_finish(code).surface == finish.surface
        assert decode_finish(code).hue == pytest.approx(finish.hue, rel=1e-6)


def test_wrong_splits_are_named(data):
    with pytest.raises(PmgError, match=r"no split 'tset'; did you mean 'test'\?"):
        data.examples("tset")
    with pytest.raises(PmgError, match="has 6 users, 7 were requested: lower split_sizes"):
        data.examples("test", 7)
    with pytest.raises(PmgError, match="no likes in time"):
        data.timelines("test")
    with pytest.raises(PmgError, match="min_history must be at most"):
        LookUsers(1, 1, 1, 1, 5, 4, noise=0, several=0, spread=0, seed=0)


def test_the_scenario_offers_every_word_of_the_captioner(data, compose):
    cfg = compose("train", "data=looks", "scenario=looks", "captioner=measured")
    attributes, captioner = instantiate(cfg.scenario).attributes, instantiate(cfg.captioner)
    rng = random.Random(0)
    pictures = data.drawings.pictures(torch.arange(64), [SPACE.sample(rng, seen=n % 2 == 0) for n in range(64)])
    for words in captioner.describe(pictures):
        assert set(words) == set(attributes)
        assert all(word in attributes[name].options for name, word in words.items())
