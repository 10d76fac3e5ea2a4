"""The generators of docs/extending_generators.md: one without noise, and one around a transformer of one's own."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL, ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config

from plugins import write_examples
from pmg.commands.estimate import empty_models
from pmg.configuration import targets
from pmg.domain import Keywords, PmgError
from pmg.generation.condition_weighting import AttentionWeighting, ScaleWeighting
from pmg.generation.guidance import Scales
from pmg.generation.pipeline import Pipeline
from pmg.generation.requests import Request
from pmg.generation.selection import WeightGrid
from pmg.models.diffusion.conditioning import Block, join
from pmg.models.tiny_models import tiny_scorer, tiny_text_encoder
from pmg.training.memory_forecast import estimate_training
from pmg.training.objective import Denoise

WIDTH = 32


def run_example(root, name):
    """Returns the names that a file of the document defines."""
    names = {}
    exec(
        (root / "docs" / "extending_generators.md").read_text().split(f"```python\n# {name}.py\n")[1].split("```")[0],
        names,
    )
    return names


@pytest.fixture
def grey_levels(root, text_encoder):
    module = run_example(root, "grey_levels")
    torch.manual_seed(0)
    return module["GreyLevels"](text_encoder).requires_grad_(False)


class MyTransformer2DModel(ModelMixin, ConfigMixin):
    """Adds a map of the pooled vectors to the latents."""

    @register_to_config
    def __init__(self, in_channels=4, sample_size=8):
        super().__init__()
        self.map = torch.nn.Linear(2 * WIDTH, in_channels)

    def forward(self, noisy, times, tokens, visible, pooled):
        return noisy + self.map(pooled)[..., None, None]


def test_a_transformer_of_ones_own_is_a_generator(root, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "my_model", SimpleNamespace(MyTransformer2DModel=MyTransformer2DModel))
    MyTransformer2DModel().save_pretrained(tmp_path / "transformer")
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    AutoencoderKL(block_out_channels=(32, 32), latent_channels=4, **blocks).save_pretrained(tmp_path / "vae")
    generator = run_example(root, "my_transformer")["load"](str(tmp_path), tiny_text_encoder(width=WIDTH))
    block = generator.text_encoder.encode(["rocket", "cat"])
    condition = join(Block(block.tokens, block.mask, block.pooled))
    inputs = generator.sample_inputs(2, torch.Generator().manual_seed(0))
    assert generator.loss(torch.zeros(2, *generator.latent_shape), condition, inputs).shape == (2,)
    latents = generator.sample([condition], [1.0], [0, 1], steps=3)
    assert generator.decode(latents).shape == (2, 3, generator.size, generator.size)


@pytest.fixture
def plugged(root, importable):
    """The same as a plug-in on Python's path."""
    write_examples((root / "docs" / "extending_generators.md").read_text(), importable)
    targets.allow_plugin("grey_levels")


def test_a_training_with_it_is_forecast(plugged, compose):
    cfg = compose("estimate", "language_model=tiny", "text_encoder=tiny", "generator=tiny")
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
    return Pipeline(generator, tiny_scorer(), WeightGrid([0.0, 2.0]), weighting, Scales(2.0, 2.0, 2.0), steps=None)


def test_soft_tokens_are_learned_by_a_loss_without_noise(grey_levels):
    images = torch.rand(3, 3, 64, 64) * 2 - 1
    methods = pytest.importorskip("pmg.methods.inversion", reason="textual inversion is a leaf's")
    history = methods.HistoryImages(grey_levels.encode_images(images), torch.tensor([0, 1, 0]))
    captions = grey_levels.text_encoder.encode(["red apple", "dog"])
    inversion = methods.InvertedTokens(steps=3, tokens=2, draws=2)
    learned = inversion.learn(grey_levels, [history], captions, [0])
    assert not torch.allclose(learned, inversion.start(grey_levels.text_encoder, 1))


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
