"""Keywords of a trained encoder: the likeliest options, where they are likely enough."""

from __future__ import annotations

import math

import pytest
import torch

from pmg.training.token_sources import name_options


def test_options_are_named_from_a_probability_on_the_likeliest_first():
    options = [("white", "black"), ("red", "green", "blue")]
    scores = [torch.tensor([[0.7, 0.3], [0.5, 0.5]]).log(), torch.tensor([[0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]).log()]
    ann, bob = name_options(scores, options, 0.49)
    assert ann.words == ("green", "white")
    assert [math.exp(score) for score in ann.scores] == pytest.approx([0.8, 0.7])
    assert bob.words == ("white",)
    assert name_options(scores, options, 0.95)[0].words == ()
    assert name_options(scores, options, 0.0)[1].words == ("white", "blue")
