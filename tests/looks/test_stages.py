"""What the stages of ``pmg-pretrain`` share: augmentation, folders, replacement of shipped models, optimizers."""

from __future__ import annotations

import re
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from pmg.commands.pretrain import body, describe_data, install, refuse_short
from pmg.configuration.instantiate import check_targets, instantiate, to_plain
from pmg.configuration.trees import leaves
from pmg.domain import PmgError
from pmg.evaluation.model_card import read_steps
from pmg.looks.models.judge import LookJudge
from pmg.looks.stages.training import random_affine
from pmg.orchestration.run import Run


def test_augmentation_keeps_white_white_and_depends_on_its_seed():
    white = torch.ones(2, 3, 16, 16)
    assert torch.allclose(random_affine(white, torch.Generator().manual_seed(0)), white, atol=1e-6)
    images = torch.rand(2, 3, 16, 16)
    one, same, other = (random_affine(images, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("stage", ["look_autoencoder", "look_unet", "look_editor", "look_scorer", "look_judge"])
def test_a_stage_reads_the_named_models_and_writes_into_its_run_folder_alone(compose, tmp_path, stage):
    cfg = compose("pretrain", f"stage={stage}", f"paths.models_dir={tmp_path}/earlier")
    for folder in (cfg.stage.folder, cfg.card.folder):
        assert folder.startswith(f"{tmp_path}/run/model/")
    read = {value for _, value in leaves(to_plain(cfg.stage)) if "look_" in str(value)}
    assets = [value for value in read if str(value).startswith(cfg.paths.assets_dir)]
    assert all(str(value).endswith("/names.json") for value in assets)  # words, and no model
    assert cfg.trainer.max_steps == cfg.full_steps


def test_make_pretrain_trains_each_shipped_model_for_as_many_steps(compose, root):
    stages = re.search(r"^STAGES := (.+)$", (root / "Makefile").read_text(), re.M)
    for stage in stages[1].split():
        cfg = compose("pretrain", f"stage={stage}")
        shipped = Path(cfg.paths.assets_dir, Path(cfg.card.folder).relative_to(Path(cfg.run_dir, "model")))
        assert read_steps(shipped) == cfg.full_steps, stage


def test_a_card_says_which_data_a_model_learned_from(compose):
    cfg = compose("pretrain", "stage=look_unet")
    own = "Pictures of `data=own_files`"
    assert "emoji" in describe_data(cfg.card.data, "looks", None)
    assert describe_data(cfg.card.data, "own_files", None) == f"{own}."
    assert describe_data(cfg.card.data, "own_files", "assets/looks") == f"{own}, from the weights in `assets/looks`."


@pytest.mark.parametrize("short", ["debug=fast_dev_run", "trainer.max_steps=10"])
@pytest.mark.parametrize(
    ("into", "message"),
    [("assets", "would replace a shipped model after"), ("{assets}/../assets", "which only into=assets replaces")],
)
def test_a_short_training_never_replaces_a_shipped_model(compose, tmp_path, short, into, message):
    cfg = compose(
        "pretrain", short, f"paths.assets_dir={tmp_path}/assets", f"into={into.format(assets=tmp_path / 'assets')}"
    )
    with pytest.raises(PmgError, match=message):
        body(cfg, Run(tmp_path, "pretrain"))
    refuse_short(10, 10, "run")


def test_a_model_whose_replacement_was_killed_is_named_with_the_command_that_restores_it(tmp_path):
    old, folder = tmp_path / ".look_judge.replaced-ab12" / "old", tmp_path / "look_judge"
    old.mkdir(parents=True)
    with pytest.raises(PmgError, match=re.escape(f"its replacement was killed: restore it with `mv {old} {folder}`")):
        LookJudge.from_folder(str(folder))
    folder.mkdir()
    with pytest.raises(PmgError, match="git checkout"):
        LookJudge.from_folder(str(folder))


def test_an_installed_model_replaces_the_old_one_as_a_whole(tmp_path):
    for name, words in (("run/model/generator/vae", ("new", "config")), ("assets/generator/vae", ("old", "stale"))):
        for word in words:
            (tmp_path / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / name / f"{word}.json").write_text(word)
    (tmp_path / "assets/generator/unet").mkdir()
    install(tmp_path / "run/model", tmp_path / "assets")
    assert sorted(path.name for path in (tmp_path / "assets/generator/vae").iterdir()) == ["config.json", "new.json"]
    assert sorted(path.name for path in (tmp_path / "assets/generator").iterdir()) == ["unet", "vae"]
    (tmp_path / "fresh/generator/.vae.replaced-killed/new").mkdir(parents=True)  # left by a process that was killed
    install(tmp_path / "run/model", tmp_path / "fresh")
    assert [path.name for path in (tmp_path / "fresh/generator").iterdir()] == ["vae"]
    assert (tmp_path / "fresh/generator/vae/new.json").read_text() == "new"


@pytest.mark.parametrize(
    ("given", "decay"), [([], 0.2), (["lr_scheduler.decay=0"], 0), (["lr_scheduler=constant"], None)]
)
def test_a_stage_has_a_schedule_of_its_own_which_the_command_line_replaces(compose, given, decay):
    cfg = compose("pretrain", "stage=look_unet", *given)
    check_targets(cfg)
    assert cfg.stage.training.lr_scheduler.get("decay") == decay


@pytest.mark.parametrize(
    ("given", "matrices"),
    [([], "transformer_blocks"), (["optimizer.matrices=attn"], "attn"), (["optimizer=adamw"], None)],
)
def test_a_stage_has_an_optimizer_of_its_own_which_the_command_line_replaces(compose, given, matrices):
    cfg = compose("pretrain", "stage=look_unet", *given)
    check_targets(cfg)
    assert cfg.stage.training.optimizer.get("matrices") == matrices


@pytest.mark.parametrize(
    ("given", "kind", "rate", "decay"),
    [([], torch.optim.AdamW, 1e-3, 0.01), (["optimizer=sgd", "optimizer.lr=0.2"], torch.optim.SGD, 0.2, 0.0)],
)
def test_optimizer_and_schedule_of_a_stage_are_those_of_the_config(compose, given, kind, rate, decay):
    cfg = compose("pretrain", "stage=look_autoencoder", "lr_scheduler=constant", *given)
    training = instantiate(cfg.stage.training)(nn.Linear(2, 2), None)
    steps = Mock(max_steps=100, estimated_stepping_batches=100)
    training.trainer = steps  # it is held weakly
    built = training.configure_optimizers()
    assert type(built["optimizer"]) is kind
    (group,) = built["optimizer"].param_groups
    assert (group["initial_lr"], group["weight_decay"]) == (rate, decay)
    assert built["lr_scheduler"]["scheduler"].get_last_lr() == [0.0]  # it rises
