"""The reader whose language model is adapted: before a training it reads what the language model says."""

from __future__ import annotations

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from pmg.models.preference.reader import Readings
from pmg.models.tiny_models import tiny_language_model

TEXTS = ["apple, flat\n", "dog, thick black outline, black and white\n"]


@pytest.fixture
def lora(scripts):
    """The module experiments/lora_reader.py."""
    import lora_reader

    return lora_reader


@pytest.fixture(scope="module")
def language_model():
    return tiny_language_model()


def read(language_model, layers):
    rows = [states.float() for states in language_model.layer_states(TEXTS, layers)]
    words = pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in rows], batch_first=True)
    liked = torch.ones(2, 3, dtype=torch.bool)
    titles, vectors = torch.randn(2, 3, language_model.width), torch.randn(2, 3, 8)
    return Readings(pad_sequence(rows, batch_first=True), words, titles, vectors, liked, liked)


def build(lora, language_model, readings):
    return lora.build_lora_reader(
        language_model, torch.randn(5, 4), readings, soft_tokens=2, width=64, rank=2, blocks=1, first=1
    )


def test_untrained_it_reads_the_language_models_own_states(lora, language_model):
    readings, deeper = read(language_model, (0, 1)), read(language_model, (0, 1, 2))
    encoder = build(lora, language_model, readings)
    found = encoder.read_on(language_model, readings).states
    torch.testing.assert_close(found[deeper.words], deeper.states[deeper.words], atol=1e-4, rtol=1e-4)


def test_only_what_is_added_learns(lora, language_model):
    readings = read(language_model, (0, 1))
    encoder = build(lora, language_model, readings)
    encoder(language_model, readings).square().sum().backward()
    (maps,) = encoder.adapters
    assert all(part.up.weight.grad.abs().sum() > 0 for part in maps.values())
    assert all(weight.grad is None for weight in language_model.model.parameters())
    before = encoder(language_model, readings)
    with torch.no_grad():
        for part in maps.values():
            part.up.weight.add_(1.0)
    assert not torch.equal(encoder(language_model, readings), before)
    assert not language_model.model.model.layers[1].self_attn.q_proj._forward_hooks
