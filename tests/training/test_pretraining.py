"""The pretraining stages at toy size: they train, save in the libraries' own layouts, and go on."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file

from pmg.models.judge import Judge
from pmg.models.perceptual import PerceptualDistance
from pmg.models.scorer import Scorer
from pmg.models.tiny import tiny_generator
from pmg.training.augment import random_affine
from pmg.training.callbacks import LastCheckpoint
from pmg.training.pretraining import AutoencoderStage, DenoiserStage, JudgeStage, ScorerStage, rows_of


def trainer(folder, steps=2):
    return pl.Trainer(
        max_steps=steps, max_epochs=-1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu", callbacks=[LastCheckpoint(str(folder))], limit_val_batches=1, val_check_interval=1,
        check_val_every_n_epoch=None, num_sanity_val_steps=0,
    )  # fmt: skip


@pytest.fixture
def stages(tmp_path, root, text_encoder):
    """Each stage over one folder, which already holds a tiny autoencoder."""
    folder = tmp_path / "generator"
    tiny = tiny_generator(text_encoder)
    tiny.autoencoder.save_pretrained(folder / "vae")
    return {
        "autoencoder": lambda: AutoencoderStage(
            str(folder / "vae"), tiny_generator(text_encoder).autoencoder.requires_grad_(True),
            PerceptualDistance.from_folder(root / "assets" / "lpips"), 1e-3, 4,
        ),
        "denoiser": lambda: DenoiserStage(
            str(folder), tiny_generator(text_encoder).denoiser, tiny.noise_scheduler, text_encoder, "sticker",
            {"target": 0.1, "attributes": 0.3, "hand": 0.3}, 1e-3, 4, 5.0, 0.99,
        ),
        "scorer": lambda: ScorerStage(
            str(tmp_path / "scorer"), str(folder), text_encoder, "sticker", (8, 8, 8, 8), 1e-3, 4
        ),
        "judge": lambda: JudgeStage(
            str(tmp_path / "judge"), str(folder), PerceptualDistance.from_folder(root / "assets" / "lpips"), 64,
            1e-3, 4,
        ),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind", "place"),
    [
        ("autoencoder", AutoencoderKL, "generator/vae"),
        ("denoiser", UNet2DConditionModel, "generator/unet"),
        ("scorer", Scorer, "scorer"),
        ("judge", Judge, "judge"),
    ],
)
def test_stage_trains_saves_half_precision_and_measures(stages, emoji, tmp_path, name, kind, place):
    stage = stages[name]()
    module, batches = stage.build(emoji, 0)
    trainer(tmp_path / "checkpoints").fit(module, batches)
    quality = stage.finish(emoji)
    assert quality
    assert all(value >= 0 for value in quality.values())
    (weights,) = (tmp_path / place).glob("*.safetensors")
    assert {tensor.dtype for tensor in load_file(weights).values() if tensor.is_floating_point()} == {torch.float16}
    assert isinstance(kind.from_pretrained(tmp_path / place), kind)


def test_resumed_denoiser_equals_uninterrupted(stages, emoji, tmp_path, stop_at):
    def run(folder, *limits):
        for limit in limits:
            torch.manual_seed(0)
            stage = stages["denoiser"]()
            module, batches = stage.build(emoji, 0)
            path = folder / "last.ckpt"
            running = trainer(folder, 4)
            running.callbacks.append(stop_at(limit))
            running.fit(module, batches, ckpt_path=path if path.exists() else None, weights_only=True)
        return stage.generator.denoiser.state_dict()

    whole, parts = run(tmp_path / "whole", 4), run(tmp_path / "parts", 2, 4)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_held_out_drawings_are_in_no_training_batch(stages, emoji):
    seen, held_out = rows_of(emoji)
    assert not set(seen.tolist()) & set(held_out.tolist())
    for name in ("autoencoder", "denoiser", "scorer", "judge"):
        _, batches = stages[name]().build(emoji, 0)
        assert set(batches.train.rows.tolist()) <= set(seen.tolist())


def test_augmentation_keeps_white_white_and_depends_on_its_seed():
    white = torch.ones(2, 3, 16, 16)
    assert torch.allclose(random_affine(white, torch.Generator().manual_seed(0)), white, atol=1e-6)
    images = torch.rand(2, 3, 16, 16)
    one, same, other = (random_affine(images, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
