"""Tests of the texts of a training."""

import pytest

from pmg.domain import Keywords
from pmg.training.preference_setup import encode_texts


@pytest.mark.parametrize("keep", [True, False])
def test_no_keywords_are_hidden_and_set_a_scale(generator, keep):
    texts, embeddings = encode_texts([Keywords(())] * 2, [Keywords(("dog",))], generator.text_encoder, keep)
    assert len(embeddings) >= 2
    rows = texts.targets.mask.new_zeros(1).long()
    assert not texts.keywords[rows].mask.any()
