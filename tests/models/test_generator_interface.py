"""The generator of docs/extending.md, which has no noise, in textual inversion and in the pipeline."""

from __future__ import annotations

import sys

import pytest
import torch

from plugins import write_examples
from pmg.commands.estimate import empty_models
from pmg.configuration import targets
from pmg.domain import Keywords, PmgError
from pmg.generation.condition_weighting import AttentionWeighting, ScaleWeighting
from pmg.generation.guidance import Scales
from pmg.generation.pipeline import Pipeline
from pmg.generation.requests import Request
from pmg.generation.selection import WeightGrid
from pmg.models.loading.tiny_models import tiny_scorer
from pmg.training.inversion import HistoryImages, TextualInversion
from pmg.training.memory_forecast import estimate_training
from pmg.training.objective import Denoise


@pytest.fixture
def grey_levels(root, text_encoder):
    section = (root / "docs" / "extending.md").read_text().split("## Generator families")[1]
    names = {}
    exec(section.split("```python\n")[1].split("```")[0], names)
    torch.manual_seed(0)
    return names["GreyLevels"](text_encoder).requires_grad_(False)


@pytest.fixture
def plugged(root, tmp_path, monkeypatch):
    """The same as a plug-in on Python's path."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(targets, "_allowed", {})
    write_examples((root / "docs" / "extending.md").read_text(), tmp_path)
    targets.allow_plugin("grey_levels")
    yield
    sys.modules.pop("grey_levels", None)


def test_a_training_with_it_is_forecast(plugged, compose):
    cfg = compose("estimate", "encoder=tiny", "text_encoder=tiny", "generator=tiny")
    cfg.generator = {"_target_": "grey_levels.GreyLevels", "text_encoder": cfg.text_encoder, "levels": 4}
    language_model, generator, weights, sizes = empty_models(cfg)
    assert generator.device.type == "meta"
    assert weights["head"] == 4 * (384 * 4 + 4)
    estimate = estimate_training(language_model, generator, weights, sizes, {"denoise": Denoise(1.0)})
    assert all(size > 0 for size in estimate.phases.values())
    del sys.modules["grey_levels"].GreyLevels.frozen_models
    with pytest.raises(PmgError, match="GreyLevels lacks frozen_models"):
        empty_models(cfg)


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
