"""The pretraining stages at toy size: they train, save in the libraries' own layouts, and go on."""

from __future__ import annotations

import re
from functools import partial
from unittest.mock import Mock

import pytest
import pytorch_lightning as pl
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from torch import nn

from pmg.commands.pretrain import body, install, refuse_short
from pmg.configuration.instantiate import check_targets, instantiate, to_plain
from pmg.configuration.trees import leaves
from pmg.domain import PmgError
from pmg.models.loading.tiny_models import tiny_generator
from pmg.models.vision.judge import Judge
from pmg.models.vision.perceptual import PerceptualDistance
from pmg.models.vision.scorer import Scorer
from pmg.orchestration.run import Run
from pmg.training.callbacks import LastCheckpoint
from pmg.training.optim import adamw, one_cycle
from pmg.training.pretraining.augmentation import random_affine
from pmg.training.pretraining.autoencoder import AutoencoderTraining
from pmg.training.pretraining.denoiser import DenoiserTraining
from pmg.training.pretraining.judge import JudgeTraining
from pmg.training.pretraining.scorer import ScorerTraining
from pmg.training.pretraining.stages import AutoencoderStage, DenoiserStage, JudgeStage, ScorerStage, rows_of

FIT = {"optimizer": adamw(1e-3), "lr_scheduler": one_cycle}


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
    tiny.codec.autoencoder.save_pretrained(folder / "vae")
    return {
        "autoencoder": lambda: AutoencoderStage(
            str(folder / "vae"), tiny_generator(text_encoder).codec.autoencoder.requires_grad_(True),
            PerceptualDistance.from_folder(root / "assets" / "lpips"), partial(AutoencoderTraining, **FIT), 4,
        ),
        "denoiser": lambda: DenoiserStage(
            str(tmp_path / "made"), str(folder), tiny_generator(text_encoder).denoiser.model, tiny.process,
            text_encoder, scene="sticker", drop={"target": 0.1, "attributes": 0.3, "artist_style": 0.3},
            training=partial(DenoiserTraining, **FIT, ema_decay=0.99), batch_size=4,
        ),
        "scorer": lambda: ScorerStage(
            str(tmp_path / "scorer"), str(folder), text_encoder, scene="sticker", widths=(8, 8, 8, 8),
            training=partial(ScorerTraining, **FIT), batch_size=4,
        ),
        "judge": lambda: JudgeStage(
            str(tmp_path / "judge"), str(folder), PerceptualDistance.from_folder(root / "assets" / "lpips"), 64,
            partial(JudgeTraining, **FIT), 4,
        ),
    }  # fmt: skip


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind", "place"),
    [
        ("autoencoder", AutoencoderKL, "generator/vae"),
        ("denoiser", UNet2DConditionModel, "made/unet"),
        ("scorer", Scorer, "scorer"),
        ("judge", Judge, "judge"),
    ],
)
def test_stage_trains_saves_half_precision_and_measures(stages, drawings, tmp_path, name, kind, place):
    stage = stages[name]()
    module, batches = stage.build(drawings, 0)
    trainer(tmp_path / "checkpoints").fit(module, batches)
    quality = stage.save_and_evaluate(drawings)
    assert quality
    assert all(value >= 0 for value in quality.values())
    (weights,) = (tmp_path / place).glob("*.safetensors")
    assert {tensor.dtype for tensor in load_file(weights).values() if tensor.is_floating_point()} == {torch.float16}
    assert isinstance(kind.from_pretrained(tmp_path / place), kind)


@pytest.mark.ci
@pytest.mark.slow
def test_resumed_denoiser_equals_uninterrupted(stages, drawings, tmp_path, stop_at):
    def run(folder, *limits):
        for limit in limits:
            torch.manual_seed(0)
            stage = stages["denoiser"]()
            module, batches = stage.build(drawings, 0)
            path = folder / "last.ckpt"
            running = trainer(folder, 4)
            running.callbacks.append(stop_at(limit))
            running.fit(module, batches, ckpt_path=path if path.exists() else None, weights_only=True)
        return stage.generator.denoiser.model.state_dict()

    whole, parts = run(tmp_path / "whole", 4), run(tmp_path / "parts", 2, 4)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.ci
@pytest.mark.slow
def test_held_out_drawings_are_in_no_training_batch(stages, drawings):
    seen, held_out = rows_of(drawings)
    assert not set(seen.tolist()) & set(held_out.tolist())
    for name in ("autoencoder", "denoiser", "scorer", "judge"):
        _, batches = stages[name]().build(drawings, 0)
        assert set(batches.train.rows.tolist()) <= set(seen.tolist())


def test_augmentation_keeps_white_white_and_depends_on_its_seed():
    white = torch.ones(2, 3, 16, 16)
    assert torch.allclose(random_affine(white, torch.Generator().manual_seed(0)), white, atol=1e-6)
    images = torch.rand(2, 3, 16, 16)
    one, same, other = (random_affine(images, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    "stage",
    ["autoencoder", "autoencoder_polish", "denoiser", "denoiser_polish", "denoiser_finish", "scorer", "judge"],
)
def test_a_stage_reads_the_named_models_and_writes_into_its_run_folder_alone(compose, tmp_path, stage):
    cfg = compose("pretrain", f"stage={stage}", f"models_dir={tmp_path}/earlier")
    for folder in (cfg.stage.folder, cfg.card.folder):
        assert folder.startswith(f"{tmp_path}/run/model/")
    read = {value for _, value in leaves(to_plain(cfg.stage)) if "generator" in str(value) or "judge" in str(value)}
    assert not [value for value in read if str(value).startswith(cfg.paths.assets_dir)]
    assert cfg.trainer.max_steps == cfg.full_steps


@pytest.mark.parametrize("short", ["debug=fast_dev_run", "trainer.max_steps=10"])
@pytest.mark.parametrize("into", ["assets", "{assets}/../assets"])
def test_a_short_training_never_replaces_a_shipped_model(compose, pmg, tmp_path, short, into):
    cfg = compose(
        "pretrain", short, f"paths.assets_dir={tmp_path}/assets", f"into={into.format(assets=tmp_path / 'assets')}"
    )
    with pytest.raises(PmgError, match="would replace a shipped model after"):
        body(cfg, Run(tmp_path, "pretrain"))
    refuse_short(compose("pretrain", short), 1)
    refuse_short(compose("pretrain", short, f"into={tmp_path}/elsewhere"), 1)


def test_a_model_whose_replacement_was_killed_is_named_with_the_command_that_restores_it(tmp_path):
    old, folder = tmp_path / ".judge.ab12" / "old", tmp_path / "judge"
    old.mkdir(parents=True)
    with pytest.raises(PmgError, match=re.escape(f"its replacement was killed: restore it with `mv {old} {folder}`")):
        Judge.from_folder(str(folder))
    folder.mkdir()
    with pytest.raises(PmgError, match="git checkout"):
        Judge.from_folder(str(folder))


def test_an_installed_model_replaces_the_old_one_as_a_whole(tmp_path):
    for name, words in (("run/model/generator/vae", ("new", "config")), ("assets/generator/vae", ("old", "stale"))):
        for word in words:
            (tmp_path / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / name / f"{word}.json").write_text(word)
    (tmp_path / "assets/generator/unet").mkdir()
    install(tmp_path / "run/model", tmp_path / "assets")
    assert sorted(path.name for path in (tmp_path / "assets/generator/vae").iterdir()) == ["config.json", "new.json"]
    assert sorted(path.name for path in (tmp_path / "assets/generator").iterdir()) == ["unet", "vae"]
    (tmp_path / "fresh/generator/.vae.killed/new").mkdir(parents=True)  # left by a process that was killed
    install(tmp_path / "run/model", tmp_path / "fresh")
    assert [path.name for path in (tmp_path / "fresh/generator").iterdir()] == ["vae"]
    assert (tmp_path / "fresh/generator/vae/new.json").read_text() == "new"


@pytest.mark.parametrize(
    ("given", "decay"), [([], 0.2), (["lr_scheduler.decay=0"], 0), (["lr_scheduler=constant"], None)]
)
def test_a_stage_has_a_schedule_of_its_own_which_the_command_line_replaces(compose, given, decay):
    cfg = compose("pretrain", "data=looks", "stage=look_denoiser", *given)
    check_targets(cfg)
    assert cfg.stage.training.lr_scheduler.get("decay") == decay


@pytest.mark.parametrize(
    ("given", "matrices"),
    [([], "transformer_blocks"), (["optimizer.matrices=attn"], "attn"), (["optimizer=adamw"], None)],
)
def test_a_stage_has_an_optimizer_of_its_own_which_the_command_line_replaces(compose, given, matrices):
    cfg = compose("pretrain", "data=looks", "stage=look_denoiser", *given)
    check_targets(cfg)
    assert cfg.stage.training.optimizer.get("matrices") == matrices


@pytest.mark.parametrize(
    ("given", "kind", "rate", "decay"),
    [
        ([], torch.optim.AdamW, 1.5e-3, 0.05),
        (["optimizer=sgd", "optimizer.lr=0.2"], torch.optim.SGD, 0.2, 0.05),
    ],
)
def test_optimizer_and_schedule_of_a_stage_are_those_of_the_config(compose, given, kind, rate, decay):
    cfg = compose("pretrain", "stage=scorer", "lr_scheduler=constant", *given)
    training = instantiate(cfg.stage.training)(nn.Linear(2, 2), None)
    steps = Mock(max_steps=100, estimated_stepping_batches=100)
    training.trainer = steps  # it is held weakly
    built = training.configure_optimizers()
    assert type(built["optimizer"]) is kind
    (group,) = built["optimizer"].param_groups
    assert (group["initial_lr"], group["weight_decay"]) == (rate, decay)
    assert built["lr_scheduler"]["scheduler"].get_last_lr() == [0.0]  # it rises
