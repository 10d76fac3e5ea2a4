"""Simulated users: tastes, histories, targets, and splits that don't leak."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pmg.data.emoji.catalogue import Catalogue
from pmg.data.emoji.holdout import check_leaks, hold_out
from pmg.data.emoji.tastes import build_tastes
from pmg.data.emoji.users import CatalogueIndex, UserSimulation
from pmg.domain import PmgError


@pytest.fixture(scope="module")
def splits(emoji):
    """Some users of each split."""
    return {name: emoji.examples(name, users=60) for name in ("train", "validation", "test")}


def styles_of(example):
    return set(example.labels["styles"].split(","))


@pytest.mark.ci
@pytest.mark.slow
def test_whole_data_set_is_large_enough_and_free_of_leaks(compose):
    from pmg.configuration.instantiate import instantiate

    data = instantiate(compose("train").data)
    whole = {name: data.examples(name) for name in data.users.sizes}
    users = {name: len({example.user for example in examples}) for name, examples in whole.items()}
    assert users["train"] >= 2000
    assert users["validation"] >= 200
    assert users["test"] >= 400
    check_leaks(whole, data.images.style, data.held_out)


def test_histories_are_in_order_and_of_the_right_length(splits):
    for example in splits["train"]:
        times = [interaction.timestamp for interaction in example.history]
        assert times == sorted(times)
        assert 4 <= len(times) <= 12


def test_histories_follow_the_taste_with_some_noise(splits, emoji):
    first = {example.user: example for example in splits["train"]}.values()
    fits = [[emoji.images.style[b.item.id] in styles_of(e) for b in e.history] for e in first]
    assert all(sum(history) > len(history) / 2 for history in fits)
    strays = 1 - sum(map(sum, fits)) / sum(map(len, fits))
    assert 0.08 < strays < 0.25


def test_both_kinds_of_taste_are_there(splits):
    assert {example.labels["kind"] for example in splits["test"]} == {"describable", "indescribable"}


def test_truth_is_every_drawing_that_fits(splits, emoji):
    for example in splits["test"]:
        assert {emoji.images.style[item.id] for item in example.truth} == styles_of(example)
        assert {item.concept for item in example.truth} == {example.target.concept}


def test_users_do_not_depend_on_how_many_are_drawn(emoji, splits):
    assert emoji.examples("test", users=5) == splits["test"][: len(emoji.examples("test", users=5))]


def test_held_out_cells_do_not_depend_on_the_other_concepts(emoji):
    concepts = emoji.images.concepts
    few = hold_out(concepts[:5], emoji.tastes, 0)
    assert all(few.tastes[concept] == emoji.held_out.tastes[concept] for concept in concepts[:5])


def test_asking_for_too_many_users_is_refused(emoji):
    with pytest.raises(PmgError, match="480 users, 481 were requested: lower split_sizes"):
        emoji.examples("test", users=481)


def leak(splits, split, **change):
    return {**splits, split: [replace(splits[split][0], **change), *splits[split][1:]]}


@pytest.mark.parametrize(
    ("split", "change", "message"),
    [
        ("test", lambda s: {"user": s["train"][0].user}, "is in 'train' and in 'test'"),
        ("train", lambda s: {"truth": s["test"][0].truth}, "held-out drawing as its truth"),
        ("test", lambda s: {"truth": s["train"][0].truth}, "was seen in training"),
        ("train", lambda s: {"target": s["train"][0].history[0].item}, "concept is in its history"),
    ],
)
def test_leaks_are_refused(splits, emoji, split, change, message):
    with pytest.raises(PmgError, match=message):
        check_leaks(leak(splits, split, **change(splits)), emoji.images.style, emoji.held_out)


def test_held_out_drawing_in_a_history_is_refused(splits, emoji):
    hidden = splits["test"][0].truth[0]
    other = next(e for e in splits["train"] if e.target.concept != hidden.concept)
    history = (replace(other.history[0], item=hidden), *other.history[1:])
    with pytest.raises(PmgError, match="holds a held-out drawing"):
        check_leaks({"train": [replace(other, history=history)]}, emoji.images.style, emoji.held_out)


def test_topics_without_a_target_are_named(emoji):
    everything = dict.fromkeys(emoji.held_out.tastes, emoji.tastes[1])
    index = CatalogueIndex(emoji.images, replace(emoji.held_out, tastes=everything))
    with pytest.raises(PmgError, match=r"no concept of data\.topics can be a test target for taste 'black_and_white'"):
        emoji.users.split("test", index, emoji.tastes, users=1)


def test_one_topic_is_enough_for_a_user(compose):
    from pmg.configuration.instantiate import instantiate

    data = instantiate(compose("train", "data.topics=[animal-mammal]").data)
    examples = data.examples("train", users=10)
    assert {item.topic for example in examples for item in example.liked} == {"animal-mammal"}


def test_histories_whose_shortest_is_longer_than_the_longest_are_refused():
    with pytest.raises(PmgError, match=r"min_history must be at most data.users.max_history \(12\), got 13"):
        UserSimulation(1, 1, 1, 1, 13, 12, noise=0.2, seed=0)


@pytest.mark.parametrize(
    ("tastes", "styles", "message"),
    [
        ({"a": {"kind": "describable", "styles": []}}, {}, r"data.tastes.a.styles is empty"),
        ({"a": {"kind": "any", "styles": ["noto"]}}, {}, r"data.tastes.a.kind: 'any'. Use describable or"),
        (
            {"a": {"kind": "describable", "styles": ["nota"]}},
            {},
            "data.styles has no 'nota'; did you mean",
        ),
        ({}, {"bare": {"pack": "Bare"}}, "data.styles.bare has no 'colour'"),
    ],
)
def test_wrong_tastes_are_named_by_their_key(emoji, tastes, styles, message):
    with pytest.raises(PmgError, match=message):
        build_tastes(tastes, {**emoji.styles, **styles})


def test_a_row_of_an_unconfigured_style_is_named(emoji):
    styles = {name: facts for name, facts in emoji.styles.items() if name != "noto"}
    with pytest.raises(PmgError, match=r"catalogue.parquet, row '[\w-]+@noto': data.styles has no 'noto'"):
        Catalogue.load(emoji.folder, styles, ["food-fruit"])
