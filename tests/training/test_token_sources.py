"""Samples of a training, and keywords of a trained encoder: the likeliest options, where they are likely enough."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from pmg.domain import Example, Interaction, Item
from pmg.preferences.scenarios import Attribute
from pmg.training.preference_setup import list_samples
from pmg.training.token_sources import name_options, scores_options


def test_a_profile_of_both_splits_trains_on_its_own_targets_alone():
    """With data.split_by=item two targets of one window may be in different splits."""
    history = (Interaction(Item("h", "h", "h")),)
    train, validation = (
        [Example(name, "ann", history, Item(name, name, name), (Item(name, name, name),), moment="3")]
        for name in ("learned", "asked")
    )
    extracted = SimpleNamespace(profiles=["ann@3"], rows=lambda names: [0 for _ in names])
    samples = list_samples(train, validation, extracted, ["learned", "asked"])
    assert (samples.train.tolist(), samples.validation.tolist()) == ([0], [0])
    seen = [[samples.truths[place].id for place, _ in pairs[0]]
            for pairs in (samples.train_pairs, samples.validation_pairs)]  # fmt: skip
    assert seen == [["learned"], ["asked"]]


def test_options_are_named_from_a_probability_on_the_likeliest_first():
    options = [("white", "black"), ("red", "green", "blue")]
    scores = [torch.tensor([[0.7, 0.3], [0.5, 0.5]]).log(), torch.tensor([[0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]).log()]
    ann, bob = name_options(scores, options, 0.49)
    assert ann.words == ("green", "white")
    assert [math.exp(score) for score in ann.scores] == pytest.approx([0.8, 0.7])
    assert bob.words == ("white",)
    assert name_options(scores, options, 0.95)[0].words == ()
    assert name_options(scores, options, 0.0)[1].words == ("white", "blue")


def test_an_encoder_answers_for_a_scenario_of_its_own_options_alone():
    def answers(answered, **options):
        attributes = {name: Attribute(name, words) for name, words in options.items()}
        return scores_options(SimpleNamespace(config={"answered": answered}), SimpleNamespace(attributes=attributes))

    assert answers([("ground", ["white", "black"])], ground=("white", "black"), free=())
    assert not answers([("ground", ["white", "black"])], ground=("black", "white"))
    assert not answers([("ground", ["white"])], ground=("white",), colour=("red",))
    assert not answers([], free=())
