"""The scorer of looks: what its image encoder reads, and what is trained."""

import pytest
import torch

from pmg.looks.models.efficientnet_lite import EfficientNetLite, EfficientNetLiteConfig
from pmg.looks.models.scorer import STAGES, LookScorer


@pytest.fixture
def trunk():
    torch.manual_seed(0)
    return EfficientNetLite(EfficientNetLiteConfig()).eval()


@pytest.fixture
def scorer(trunk):
    return LookScorer.from_trunk(trunk, width=16, size=64, frozen_stages=2).eval()


@pytest.fixture
def pictures():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_it_reads_the_first_stages_of_the_trunk(scorer, trunk, pictures):
    wanted, found = trunk(pictures)[0][:STAGES], scorer.encoder.trunk(pictures)[0]
    assert len(found) == STAGES
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_vectors_have_length_one(scorer, pictures):
    for vectors in scorer(pictures):
        assert vectors.shape == (2, 16)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))


def test_it_is_saved_and_loaded_whole(scorer, pictures, tmp_path):
    scorer.save_pretrained(tmp_path)
    loaded = LookScorer.from_folder(str(tmp_path))
    assert all(torch.equal(one, other) for one, other in zip(loaded(pictures), scorer(pictures), strict=True))


def test_the_first_stages_are_frozen(scorer):
    frozen = {name.split(".")[3] for name, weight in scorer.named_parameters() if not weight.requires_grad}
    assert {name for name in frozen if name.isdigit()} == {"0", "1"}
    assert all(weight.requires_grad for weight in scorer.content.parameters())
