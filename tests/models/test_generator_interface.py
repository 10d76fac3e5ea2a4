"""The generator of docs/extending.md, which has no noise, in textual inversion and in the pipeline."""

from __future__ import annotations

import pytest
import torch

from pmg.domain import Keywords, PmgError
from pmg.generation.condition_weighting import AttentionWeighting, ScaleWeighting
from pmg.generation.guidance import Scales
from pmg.generation.pipeline import Pipeline
from pmg.generation.requests import Request
from pmg.generation.selection import WeightGrid
from pmg.models.loading.tiny_models import tiny_scorer
from pmg.training.inversion import HistoryImages, TextualInversion


@pytest.fixture
def grey_levels(root, text_encoder):
    section = (root / "docs" / "extending.md").read_text().split("## Generator families")[1]
    names = {}
    exec(section.split("```python\n")[1].split("```")[0], names)
    torch.manual_seed(0)
    return names["GreyLevels"](text_encoder).requires_grad_(False)


def build(generator, weighting):
    return Pipeline(generator, tiny_scorer(), WeightGrid([0.0, 2.0]), weighting, Scales(2.0, 2.0, 2.0), steps=1)


def test_soft_tokens_are_learned_by_a_loss_without_noise(grey_levels):
    images = torch.rand(3, 3, 64, 64) * 2 - 1
    history = HistoryImages(grey_levels.encode_images(images), torch.tensor([0, 1, 0]))
    captions = grey_levels.text_encoder.encode(["red apple", "dog"])
    inversion = TextualInversion(grey_levels, steps=3, tokens=2, draws=2)
    assert not torch.allclose(inversion([history], captions, [0]), inversion.start(1))


def test_the_pipeline_generates_without_noise(grey_levels):
    requests = [
        Request(Keywords((word,)), Keywords(("flat",)), True, None, seed) for seed, word in enumerate(("apple", "dog"))
    ]
    generated = build(grey_levels, ScaleWeighting())(requests)
    assert generated.images.shape == (2, 3, 64, 64)
    assert generated.images.unique().numel() <= grey_levels.levels
    alone = build(grey_levels, ScaleWeighting())(requests[1:])
    assert torch.equal(alone.images[0], generated.images[1])


def test_a_weighting_that_the_generator_lacks_is_refused(grey_levels):
    with pytest.raises(PmgError, match=r"balance\.weighting is AttentionWeighting, and a GreyLevels has no"):
        build(grey_levels, AttentionWeighting())
