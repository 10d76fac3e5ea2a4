"""What a machine lacks is named before anything is loaded."""

from __future__ import annotations

import logging

import pytest
from omegaconf import OmegaConf

from pmg.domain import PmgError
from pmg.orchestration.hardware import check_device, check_trainer
from pmg.orchestration.run import Run
from pmg.orchestration.sharding import run_missing_shards


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("accelerator=gpuu", "invalid accelerator name"),
        ("devices=zwei", "trainer.devices=zwei"),
        ("precision=17", "Precision 17 is invalid"),
        ("max_time=soon", "not a valid duration"),
        ("strategy=ddd", "trainer.strategy=ddd"),
    ],
)
def test_what_lightning_refuses_is_one_line(compose, argument, expected):
    cfg = compose("train", f"++trainer.{argument}")
    with pytest.raises(PmgError, match=r"^trainer: ") as caught:
        check_trainer(cfg.trainer)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_checking_a_trainer_prints_none_of_lightnings_tips(compose, caplog, monkeypatch):
    source = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    caplog.set_level("INFO", source.name)
    monkeypatch.setattr(source, "handlers", [caplog.handler])  # Lightning's loggers don't propagate to the root
    check_trainer(compose("train").trainer)
    assert not caplog.messages


def test_shipped_trainer_is_fine(compose):
    check_trainer(compose("train", "trainer=cpu").trainer)
    check_device("auto")


@pytest.mark.parametrize("device", ["gpux", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(PmgError, match=f"device={device}"):
        check_device(device)


@pytest.mark.parametrize("command", ["generate", "evaluate"])
def test_a_gpu_that_shards_dont_see_is_refused(tmp_path, command):
    cfg = OmegaConf.create({"device": "cuda:1", "shard": {"index": None, "count": 2}})
    with pytest.raises(PmgError, match=r"^device=cuda:1: each of the 2 shards sees one GPU.* Set device=cuda;"):
        run_missing_shards(cfg, Run(tmp_path, command), command, lambda cfg, run: pytest.fail("it must not start"))
