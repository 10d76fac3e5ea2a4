"""Training of the preference encoder: what moves, what stays, what is saved, and going on."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch

from pmg.domain import PmgError
from pmg.training.callbacks import LastCheckpoint, Signature, resume_point


def trainer(folder, steps, signature="a"):
    return pl.Trainer(
        max_steps=steps, logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        callbacks=[LastCheckpoint(str(folder)), Signature(signature)], gradient_clip_val=1.0, max_epochs=-1,
    )  # fmt: skip


def weights(*models):
    return [value.clone() for model in models for value in model.state_dict().values()]


def test_only_the_encoder_moves(training, tmp_path):
    module, batches = training()
    language_model, generator = module._frozen
    frozen = weights(language_model, generator)
    before = {name: value.clone() for name, value in module.encoder.named_parameters()}
    trainer(tmp_path, 3).fit(module, batches)
    after = weights(language_model, generator)
    assert all(torch.equal(a, b) for a, b in zip(frozen, after, strict=True))
    assert not any(parameter.grad is not None for m in (language_model, generator) for parameter in m.parameters())
    assert not generator.training
    assert all(not torch.equal(before[name], value) for name, value in module.encoder.named_parameters())


def test_loss_falls_when_one_batch_is_learned_by_heart(training):
    module, batches = training()
    batch = batches.train.batch(0)
    optimizer = torch.optim.Adam(module.encoder.parameters(), lr=2e-2)
    losses = []
    for _ in range(40):
        loss = module.loss(batch).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_checkpoint_holds_trained_parts_alone_and_loads_safely(training, tmp_path):
    module, batches = training()
    trainer(tmp_path, 2).fit(module, batches)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert all(name.startswith("encoder.") for name in checkpoint["state_dict"])
    assert checkpoint["config_hash"] == "a"


def test_resumed_equals_uninterrupted(training, tmp_path, stop_at):
    whole, batches = training()
    trainer(tmp_path / "whole", 6).fit(whole, batches)
    first, batches = training()
    # the same schedule, stopped half way
    half = trainer(tmp_path / "parts", 6)
    half.callbacks.append(stop_at(3))
    half.fit(first, batches)
    second, batches = training()
    trainer(tmp_path / "parts", 6).fit(second, batches, ckpt_path=tmp_path / "parts" / "last.ckpt", weights_only=True)
    for (name, a), b in zip(whole.encoder.state_dict().items(), second.encoder.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_checkpoint_of_another_config_is_refused(training, tmp_path):
    module, batches = training()
    trainer(tmp_path, 1).fit(module, batches)
    assert resume_point(tmp_path / "last.ckpt", "a") == tmp_path / "last.ckpt"
    with pytest.raises(PmgError, match=r"last\.ckpt belongs to another config"):
        resume_point(tmp_path / "last.ckpt", "b")


def test_damaged_checkpoint_is_refused(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"half a checkp")
    with pytest.raises(PmgError, match=r"last\.ckpt is damaged"):
        resume_point(tmp_path / "last.ckpt", "a")


def test_no_checkpoint_is_a_fresh_start(tmp_path):
    assert resume_point(tmp_path / "last.ckpt", "a") is None
