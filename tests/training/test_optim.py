"""Learning-rate schedules, and the optimizers and schedules of conf/ in a training."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pmg.conf
import pytest
import torch
from omegaconf import OmegaConf
from pytorch_lightning import Trainer

from pmg.configuration.instantiate import instantiate
from pmg.domain import PmgError
from pmg.training.optim import OptimizedModule, adamw, constant, cosine, one_cycle, warmup_stable_decay

CONF = Path(pmg.conf.__file__).parent
OPTIMIZERS, SCHEDULES = (  # without options that change keys of another one
    sorted(p.stem for p in (CONF / name).iterdir() if "_target_" in p.read_text())
    for name in ("optimizer", "lr_scheduler")
)


def shipped(group, name):
    return instantiate(OmegaConf.load(CONF / group / f"{name}.yaml"))


def rates(schedule, steps=100, peak=0.5):
    """The learning rate of each step."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    scheduler, found = schedule(optimizer, total_steps=steps), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("schedule", "last"), [(one_cycle, 0), (cosine, 0), (constant, 0.5), (warmup_stable_decay, 0)]
)
def test_a_schedule_rises_to_the_peak_and_ends_as_it_says(schedule, last):
    found = rates(schedule)
    assert found[0] < max(found) == pytest.approx(0.5, rel=0.01)
    assert found[-1] == pytest.approx(last, abs=0.03)


@pytest.mark.parametrize("warmup", [0, 0.01])
def test_a_cycle_without_a_rise_or_with_one_of_a_single_step_begins_at_the_peak(warmup):
    assert max(rates(partial(one_cycle, warmup=warmup))[:2]) == pytest.approx(0.5, rel=0.01)


def test_a_cycle_lowers_adamws_first_beta_while_the_rate_rises():
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    one_cycle(optimizer, total_steps=100)
    assert optimizer.param_groups[0]["betas"][0] == pytest.approx(0.95)


def test_a_short_stable_schedule_rises_in_one_step():
    assert rates(warmup_stable_decay, 10)[:2] == [0.0, 0.5]


def test_a_stable_schedule_stays_until_its_decay():
    found = rates(warmup_stable_decay)
    assert found[2:79] == [0.5] * 77
    assert found[80] > found[90] > found[99]


def test_a_constant_schedule_does_not_depend_on_the_length():
    assert rates(constant, 30) == rates(constant, 300)[:30]


class Line(OptimizedModule):
    """The smallest module with an optimizer and a schedule of the config."""

    trained = "line"

    def __init__(self, optimizer, lr_scheduler):
        super().__init__(optimizer, lr_scheduler)
        self.line = torch.nn.Linear(2, 1)

    def training_step(self, batch, _):
        return self.line(batch).square().mean()


def fit(module, steps):
    trainer = Trainer(
        max_steps=steps, max_epochs=-1, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(torch.randn(8, 2), batch_size=4))


@pytest.mark.parametrize(
    ("optimizer", "schedule"), [*((o, "one_cycle") for o in OPTIMIZERS), *(("adamw", s) for s in SCHEDULES)]
)
def test_shipped_options_train(optimizer, schedule):
    module = Line(shipped("optimizer", optimizer), shipped("lr_scheduler", schedule))
    before = module.line.weight.clone()
    fit(module, 3)
    assert not torch.equal(module.line.weight, before)


def test_a_training_without_an_end_is_refused():
    with pytest.raises(PmgError, match=r"trainer\.max_steps must be at least 1"):
        fit(Line(adamw(1e-3), one_cycle), -1)
