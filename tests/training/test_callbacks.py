"""The checkpoint that an interrupted training goes on from."""

from __future__ import annotations

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer

from pmg.training.callbacks import LastCheckpoint


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
        callbacks=[LastCheckpoint(str(folder), **options)],
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
