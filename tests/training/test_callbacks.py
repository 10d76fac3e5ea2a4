"""The checkpoint that an interrupted training goes on from."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer

from pmg.domain import PmgError
from pmg.training.callbacks import FiniteGradients, LastCheckpoint, Signature, StopBetweenSteps, resume_point


class Line(LightningModule):
    """The smallest module that trains; raises `error` at step 3 where one is given."""

    def __init__(self, error=None):
        super().__init__()
        self.line, self.error = torch.nn.Linear(2, 1), error

    def training_step(self, batch, index):
        if self.error is not None and self.global_step == 3:
            raise self.error
        return self.line(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(folder, module, **options):
    trainer = Trainer(
        max_steps=5,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[LastCheckpoint(str(folder), **options), FiniteGradients(), Signature({"seed": 0})],
    )
    trainer.fit(module, torch.utils.data.DataLoader(torch.randn(8, 2), batch_size=1))


def step(folder):
    return torch.load(folder / "last.ckpt", weights_only=True)["global_step"]


@pytest.mark.parametrize("every_s", [1e-6, 3600.0])
def test_final_state_is_saved_under_one_name(tmp_path, every_s):
    fit(tmp_path, Line(), every_s=every_s)
    assert step(tmp_path) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("bug")])
def test_state_is_saved_when_the_training_is_stopped(tmp_path, error):
    with pytest.raises((SystemExit, ValueError)):
        fit(tmp_path, Line(error))
    assert step(tmp_path) == 3


class Counts(Line):
    """A batch norm that counts its batches; gets `number` in the middle of a step, after it has."""

    def __init__(self, number=None):
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.number = torch.nn.BatchNorm1d(2), number

    def training_step(self, batch, index):
        normed = self.norm(batch.repeat(2, 1) + torch.tensor([[0.0], [1.0]]))
        if self.number is not None and index == 3:
            os.kill(os.getpid(), self.number)
        return self.line(normed).square().mean()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_signal_waits_for_the_whole_step(tmp_path, number, accumulate):
    def train(module, last=None):
        stop = StopBetweenSteps()
        trainer = Trainer(
            max_steps=6, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            callbacks=[stop, LastCheckpoint(str(tmp_path))], accumulate_grad_batches=accumulate,
        )  # fmt: skip
        before = signal.getsignal(number)
        batches = torch.arange(16.0).reshape(8, 2)
        try:
            trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=1), ckpt_path=last, weights_only=True)
        finally:
            assert signal.getsignal(number) in (before, signal.SIG_IGN)
            signal.signal(number, before)

    with pytest.raises(SystemExit):
        train(Counts(number))
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 4 // accumulate
    assert saved["state_dict"]["norm.num_batches_tracked"] == saved["global_step"] * accumulate


class Explodes(Line):
    """Its loss is no number at step 3."""

    def training_step(self, batch, index):
        loss = super().training_step(batch, index)
        return loss * float("nan") if self.global_step == 3 else loss


def test_a_loss_that_is_no_number_spoils_no_weights(tmp_path):
    module = Explodes()
    with pytest.raises(PmgError, match="not finite at step 3: lower the learning rate"):
        fit(tmp_path, module)
    assert all(weights.isfinite().all() for weights in module.parameters())
    assert step(tmp_path) == 3
    assert resume_point(tmp_path / "last.ckpt", "train", {"seed": 0}) == tmp_path / "last.ckpt"


@pytest.mark.parametrize("damage", ["cut", "bit"])
def test_damaged_checkpoint_is_refused(tmp_path, damage):
    fit(tmp_path, Line())
    path = tmp_path / "last.ckpt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "bit" else content[: len(content) // 2])
    with pytest.raises(PmgError, match=r"last\.ckpt is damaged .*; delete it"):
        resume_point(path, "train", {"seed": 0})
