"""Callbacks of a training: checkpoints to resume from, signals, seeds, logs, and counts of operations."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pmg.conf
import pytest
import torch
from omegaconf import OmegaConf
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.loggers import CSVLogger

from pmg.configuration.identity import find_differences
from pmg.configuration.instantiate import instantiate
from pmg.domain import PmgError
from pmg.runs.process_state import log_file
from pmg.runs.run_folder import identify
from pmg.training.callbacks import (
    FiniteGradients,
    StepBar,
    StepOperations,
    StepSeed,
    StopBetweenSteps,
    ValidationLog,
)
from pmg.training.checkpoints import BestCheckpoint, LastCheckpoint, Signature, resume_point
from pmg.training.datamodule import RowsDataModule, ShuffledRows


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
        if self.number is not None and index == 2:
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
    assert saved["global_step"] == {1: 3, 2: 2}[accumulate]
    assert saved["state_dict"]["norm.num_batches_tracked"] == saved["global_step"] * accumulate


def test_a_second_signal_ends_a_training_at_once():
    stop = StopBetweenSteps()
    stop._note()
    with pytest.raises(KeyboardInterrupt):
        stop._note()


class Explodes(Line):
    """Its loss is no number at step 3."""

    def training_step(self, batch, index):
        loss = super().training_step(batch, index)
        return loss * float("nan") if self.global_step == 3 else loss


def test_a_loss_that_is_no_number_changes_no_weights(tmp_path):
    module = Explodes()
    with pytest.raises(PmgError, match="not finite at step 3: lower the learning rate"):
        fit(tmp_path, module)
    assert all(weights.isfinite().all() for weights in module.parameters())
    assert step(tmp_path) == 3
    assert resume_point(tmp_path / "last.ckpt", "train", {"seed": 0}) == tmp_path / "last.ckpt"


def test_a_checkpoint_is_replaced_as_a_whole(tmp_path, monkeypatch):
    """While the new one is written, under another name, the old one is there."""
    replaced, replace = [], os.replace

    def note(part, path):
        if Path(path).name == "last.ckpt":
            replaced.append((Path(part).name, Path(path).exists() and step(tmp_path)))
        replace(part, path)

    monkeypatch.setattr("pmg.training.checkpoints.os.replace", note)
    fit(tmp_path, Line(), every_s=0)
    assert replaced == [("last.ckpt.part", before) for before in (False, 1, 2, 3, 4)]


class Rises(Line):
    """Its validation is best at step 2; adds 1 to its bias at each step."""

    def __init__(self):
        super().__init__()
        torch.nn.init.zeros_(self.line.bias)

    def configure_optimizers(self):
        return torch.optim.SGD([self.line.bias], 0.0)

    def on_train_batch_end(self, *_):
        self.line.bias.data += 1

    def validation_step(self, batch, index):
        self.log("val/total", abs(float(self.line.bias) - 2))


def validated(folder, module, *callbacks, steps=6, last=None, **options):
    """Trains with a validation at each step; returns the trainer."""
    trainer = Trainer(
        max_steps=steps, max_epochs=-1, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, val_check_interval=1, check_val_every_n_epoch=None,
        callbacks=[*callbacks, LastCheckpoint(str(folder))], **options,
    )  # fmt: skip
    batches = torch.utils.data.DataLoader(torch.randn(8, 2), batch_size=1)
    trainer.fit(module, batches, torch.utils.data.DataLoader(torch.randn(1, 2)), ckpt_path=last, weights_only=True)
    return trainer


def test_the_best_weights_are_kept_and_the_last_ones_resumed_from(tmp_path):
    module = Rises()
    trainer = validated(tmp_path, module, BestCheckpoint(str(tmp_path)))
    assert float(module.line.bias) == 2
    assert float(trainer.callback_metrics["val/total"]) == 0
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["state_dict"]["line.bias"] == 6
    again = Rises()
    trainer = validated(tmp_path, again, BestCheckpoint(str(tmp_path)), steps=8, last=tmp_path / "last.ckpt")
    assert trainer.global_step == 8
    assert float(again.line.bias) == 2  # the best of both parts
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]


def test_the_best_weights_follow_a_run_that_was_moved(tmp_path):
    validated(tmp_path / "first", Rises(), BestCheckpoint(str(tmp_path / "first")))
    moved = (tmp_path / "first").rename(tmp_path / "second")
    again = Rises()
    validated(moved, again, BestCheckpoint(str(moved)), steps=8, last=moved / "last.ckpt")
    assert float(again.line.bias) == 2
    assert sorted(path.name for path in tmp_path.rglob("*.ckpt")) == ["best.ckpt", "last.ckpt"]


class Curve(Line):
    """Fits rows by several batches a step; raises an error, once, in a batch of the given number."""

    def __init__(self, broken=None):
        super().__init__()
        torch.manual_seed(0)
        self.line, self.broken = torch.nn.Linear(2, 1), broken

    def training_step(self, batch, index):
        if index == self.broken:
            raise ValueError("bug")
        return (self.line(torch.stack([batch.sin(), batch.cos()], 1))[:, 0] - batch / 20).square().mean()

    def validation_step(self, batch, index):
        self.log("val/total", self.line.weight.abs().sum())


def accumulated(folder, module, last=None, **options):
    rows = ShuffledRows(torch.arange(20), 2, 0, lambda rows, rng: rows.float())
    trainer = Trainer(
        max_steps=6, max_epochs=-1, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, val_check_interval=6, check_val_every_n_epoch=None,
        accumulate_grad_batches=3, callbacks=[LastCheckpoint(str(folder), **options), Signature({})],
    )  # fmt: skip
    trainer.fit(module, RowsDataModule(rows, [torch.zeros(1)]), ckpt_path=last, weights_only=True)
    return module.line.weight


def test_a_step_that_an_error_broke_off_is_done_again(tmp_path):
    whole = accumulated(tmp_path / "whole", Curve())
    for batch in (6, 7, 8):
        folder = tmp_path / str(batch)
        with pytest.raises(ValueError, match="bug"):
            accumulated(folder, Curve(broken=batch))
        assert torch.equal(accumulated(folder, Curve(), folder / "last.ckpt"), whole)


def test_a_limit_of_time_is_one_of_each_session():
    state = {"metrics": {}, "callbacks": {Timer("00:00:00:01").state_key: {"time_elapsed": {}}, "other": {}}}
    Signature({}).on_load_checkpoint(None, None, state)
    assert state["callbacks"] == {"other": {}}


def test_checkpoints_saved_by_time_are_of_whole_steps(tmp_path):
    class Notes(Curve):
        def on_train_batch_start(self, batch, index):
            if (tmp_path / "last.ckpt").exists():
                shutil.copy(tmp_path / "last.ckpt", tmp_path / f"{index}.kept")

    whole = accumulated(tmp_path, Notes(), every_s=0)
    kept = [tmp_path / f"{number}.kept" for number in (3, 4, 7, 8, 12)]
    assert all(torch.equal(accumulated(tmp_path / "again", Curve(), file), whole) for file in kept)


def test_a_validation_that_was_done_before_a_kill_counts(tmp_path):
    """The best step is the second: what is saved when the third begins knows of it."""

    class Notes(Rises):
        def on_train_batch_start(self, batch, index):
            if index == 2:
                shutil.copy(tmp_path / "last.ckpt", tmp_path / "kept")

    validated(tmp_path, Notes(), BestCheckpoint(str(tmp_path)))
    again = Rises()
    trainer = validated(tmp_path, again, BestCheckpoint(str(tmp_path)), last=tmp_path / "kept")
    assert (float(again.line.bias), float(trainer.callback_metrics["val/total"])) == (2, 0)


def test_a_resumed_training_knows_the_metrics_of_its_last_validation(tmp_path):
    validated(tmp_path, Rises(), Signature({}), steps=2)
    signature = Signature({})
    validated(tmp_path, Rises(), signature, steps=2, last=tmp_path / "last.ckpt")
    assert signature.metrics == {"val/total": 0.0}


def test_half_precision_may_leave_out_steps():
    trainer = SimpleNamespace(precision_plugin=SimpleNamespace(scaler=object()), global_step=0)
    weight = torch.nn.Parameter(torch.ones(1))
    weight.grad = torch.full((1,), float("inf"))
    FiniteGradients().on_before_optimizer_step(trainer, None, torch.optim.SGD([weight], 0.1))
    trainer.precision_plugin.scaler = None
    with pytest.raises(PmgError, match="not finite at step 0"):
        FiniteGradients().on_before_optimizer_step(trainer, None, torch.optim.SGD([weight], 0.1))


def test_the_norm_of_gradients_is_logged(tmp_path):
    class Keeps(Rises):
        def on_before_optimizer_step(self, optimizer):
            self.norm = self.line.bias.grad.norm()

    module = Keeps()
    trainer = validated(tmp_path, module, FiniteGradients())
    assert trainer.callback_metrics["train/gradient_norm"] == module.norm > 0


@pytest.mark.parametrize("accumulate", [1, 3])
def test_each_batch_has_a_seed_of_its_own(tmp_path, accumulate):
    drawn = []

    class Draws(Rises):
        def training_step(self, batch, index):
            drawn.append(float(torch.rand(())))
            return super().training_step(batch, index)

    def train(steps, last=None):
        validated(tmp_path, Draws(), StepSeed(0), steps=steps, last=last, accumulate_grad_batches=accumulate)
        return drawn[-4 * accumulate :]

    whole = train(4)
    assert len(set(whole)) == len(whole)
    drawn.clear()
    train(2)
    train(4, tmp_path / "last.ckpt")
    assert drawn == whole


def test_each_process_has_seeds_of_its_own():
    drawn = []
    for rank in (0, 1):
        trainer = SimpleNamespace(accumulate_grad_batches=1, global_step=0, global_rank=rank)
        StepSeed(0).on_train_batch_start(trainer, None, None, 0)
        drawn.append(float(torch.rand(())))
    assert drawn[0] != drawn[1]


class Seen(StepBar):
    """Notes the counts that the bar shows after each batch."""

    def __init__(self):
        super().__init__()
        self.counts = []

    def on_train_batch_end(self, *arguments):
        super().on_train_batch_end(*arguments)
        self.counts.append((self.train_progress_bar.completed, self.train_progress_bar.total))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_bar_of_a_resumed_training_counts_all_steps(tmp_path, accumulate):
    def train(steps, last=None):
        bar = Seen()
        trainer = Trainer(
            max_steps=steps, max_epochs=-1, accelerator="cpu", logger=CSVLogger(tmp_path), enable_model_summary=False,
            callbacks=[bar, LastCheckpoint(str(tmp_path))], accumulate_grad_batches=accumulate,
        )  # fmt: skip
        batches = torch.utils.data.DataLoader(torch.randn(20, 2), batch_size=1)
        trainer.fit(Line(), batches, ckpt_path=last, weights_only=True)
        assert "v_num" not in bar.get_metrics(trainer, trainer.lightning_module)
        assert [each.bar_width for each in bar.configure_columns(trainer) if hasattr(each, "bar_width")] == [10]
        return bar.counts[accumulate - 1 :: accumulate]

    assert train(4) == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert train(6, tmp_path / "last.ckpt") == [(5, 6), (6, 6)]


def test_validations_are_written_into_the_log(tmp_path, caplog):
    caplog.set_level("INFO")
    with log_file(tmp_path / "train.log"):
        validated(tmp_path, Rises(), ValidationLog(), steps=2)
    lines = (tmp_path / "train.log").read_text().splitlines()  # Lightning's too, unless another test made it quiet
    assert [line.partition("] step ")[2] for line in lines if "] step " in line] == [
        "1 of 2: val/total 1",
        "2 of 2: val/total 0",
    ]


def test_early_stopping_counts_on_after_a_resume(tmp_path, shipped_callbacks):
    def stop():
        return shipped_callbacks("early_stopping", patience=3)

    assert validated(tmp_path / "whole", Rises(), stop(), steps=9).global_step == 5
    validated(tmp_path / "parts", Rises(), stop(), steps=4)
    resumed = validated(tmp_path / "parts", Rises(), stop(), steps=9, last=tmp_path / "parts" / "last.ckpt")
    assert resumed.global_step == 5


def test_the_learning_rate_is_logged(tmp_path, shipped_callbacks):
    trainer = Trainer(
        max_steps=3, accelerator="cpu", logger=CSVLogger(tmp_path), log_every_n_steps=1, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, callbacks=[shipped_callbacks("lr_monitor")],
    )  # fmt: skip
    trainer.fit(Line(), torch.utils.data.DataLoader(torch.randn(8, 2), batch_size=1))
    assert "lr-SGD" in (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text()


@pytest.fixture
def shipped_callbacks(tmp_path):
    """Builds a callback of conf/callbacks by its name, with changed values."""

    def build(name, **values):
        node = OmegaConf.load(Path(pmg.conf.__file__).parent / "callbacks" / f"{name}.yaml")[name]
        return instantiate(OmegaConf.merge(node, values))

    return build


def test_callbacks_are_chosen_as_a_list(compose):
    cfg = compose("train", "callbacks=[default,early_stopping,best_checkpoint,lr_monitor]")
    added = {"early_stopping", "best_checkpoint", "lr_monitor"}
    assert set(cfg.callbacks) == {*compose("train").callbacks, *added}
    assert not compose("train", "callbacks=none").callbacks
    differ = find_differences("train", identify(compose("train"), "train"), identify(cfg, "train"))
    assert {key.split(".")[1] for key in differ} == {"early_stopping", "best_checkpoint"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda saved: saved["optimizer_states"].clear(), r"optimizer_states\.\S+ is missing"),
        (lambda saved: saved["optimizer_states"][0]["state"].clear(), r"state\.0\.step is missing"),
        (lambda saved: saved["state_dict"].pop("line.bias"), r"state_dict\.line\.bias is missing"),
        (lambda saved: saved["state_dict"].update(more=torch.ones(1)), r"state_dict\.more is .*, not there"),
        (
            lambda saved: saved["state_dict"].update({"line.bias": torch.ones(1, dtype=torch.int8)}),
            r"line\.bias is torch\.int8 \(1,\) sha256 \w+, not torch\.float32 \(1,\)",
        ),
        (
            lambda saved: saved["state_dict"]["line.bias"].mul_(1.5),
            r"line\.bias is torch\.float32 \(1,\) sha256 \w+, not torch\.float32 \(1,\) sha256",
        ),
    ],
)
def test_a_checkpoint_without_some_of_its_tensors_is_refused(tmp_path, change, said):
    class Adaptive(Line):
        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 0.1)

    fit(tmp_path, Adaptive())
    path = tmp_path / "last.ckpt"
    saved = torch.load(path, weights_only=True)
    change(saved)
    torch.save(saved, path)
    with pytest.raises(PmgError, match=rf"last\.ckpt was changed: .*{said}.*; delete it"):
        resume_point(path, "train", {"seed": 0})


def test_checkpoints_of_other_values_are_refused_and_without_one_a_training_begins(tmp_path):
    path = tmp_path / "last.ckpt"
    assert resume_point(path, "train", {"seed": 0}) is None
    fit(tmp_path, Line())
    with pytest.raises(PmgError, match=r"last\.ckpt belongs to a training of other values: seed: 0 -> 1"):
        resume_point(path, "train", {"seed": 1})


@pytest.mark.parametrize("damage", ["cut", "bit"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    fit(tmp_path, Line())
    path = tmp_path / "last.ckpt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "bit" else content[: len(content) // 2])
    with pytest.raises(PmgError, match=r"last\.ckpt is damaged .*; delete it"):
        resume_point(path, "train", {"seed": 0})


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_operations_of_a_step_are_counted_once(accumulate):
    """A product of (1, 2) and (2, 1) forward, and one for the gradient of the weights: 4 operations each."""
    count = StepOperations()
    module = Line()
    trainer = Trainer(
        max_steps=3, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, callbacks=[count], accumulate_grad_batches=accumulate,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(torch.randn(8, 2), batch_size=1))
    assert count.counted == 8 * accumulate


def test_a_resumed_training_counts_no_step_again(tmp_path):
    """While a step is counted its products have other last bits: a resumed run would end in other weights."""
    counts = []
    for steps in (3, 6):
        counts.append(StepOperations())
        trainer = Trainer(
            max_steps=steps, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            callbacks=[counts[-1], LastCheckpoint(str(tmp_path))],
        )  # fmt: skip
        begun, resumed = [], (tmp_path / "last.ckpt").exists()
        counts[-1]._open.enter_context = begun.append if resumed else counts[-1]._open.enter_context
        batches = torch.utils.data.DataLoader(torch.randn(8, 2), batch_size=1)
        trainer.fit(Line(), batches, ckpt_path=tmp_path / "last.ckpt" if resumed else None)
    assert counts[1].counted == counts[0].counted == 8
    assert begun == []


def test_an_error_in_the_first_step_ends_the_count():
    class Broken(Line):
        def training_step(self, batch, index):
            raise ValueError("bug")

    count = StepOperations()
    trainer = Trainer(
        max_steps=3, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, callbacks=[count],
    )  # fmt: skip
    with pytest.raises(ValueError, match="bug"):
        trainer.fit(Broken(), torch.utils.data.DataLoader(torch.randn(8, 2), batch_size=1))
    before = count.counted
    torch.randn(2, 2) @ torch.randn(2, 2)
    assert count.counted == before == 0
