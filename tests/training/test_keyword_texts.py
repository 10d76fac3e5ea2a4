"""The encoded texts of a training."""

import pytest
import torch

from pmg.domain import Keywords
from pmg.training.preference_setup import encode_texts


@pytest.mark.parametrize("keep", [True, False])
def test_without_keywords_their_block_is_hidden_and_targets_set_the_scale(generator, keep):
    texts, embeddings = encode_texts([Keywords(())] * 2, [Keywords(("dog",))], generator.text_encoder, keep)
    targets = texts.targets
    assert torch.equal(embeddings, targets.tokens[targets.mask])
    rows = texts.targets.mask.new_zeros(1).long()
    assert not texts.keywords[rows].mask.any()
