"""How many processes train together, and what is refused before any is started."""

from __future__ import annotations

import pytest
import torch

from pmg.configuration.identity import hash_values
from pmg.domain import PmgError
from pmg.orchestration.distributed import _select_gpu, run_distributed, world_size
from pmg.orchestration.hardware import check_device, check_trainer
from pmg.orchestration.run import Run
from pmg.orchestration.sharding import _gpu_environment
from pmg.runs.process_state import check_rank
from pmg.runs.run_folder import identify

CPU = "trainer.accelerator=cpu"


@pytest.mark.parametrize(
    ("overrides", "count"),
    [([], 1), (["trainer=ddp", CPU], 1), (["trainer=ddp", CPU, "trainer.devices=3"], 3),
     (["trainer=multi_node"], 16), (["trainer=ddp", "trainer.devices=[0,2]"], 2),
     (["trainer=ddp", "trainer.devices='0,2,3'"], 3), (["trainer=ddp", "trainer.devices='2'"], 2),
     (["trainer=ddp", "trainer.devices='1,'"], 1)],
)  # fmt: skip
def test_processes_are_devices_times_machines(compose, overrides, count):
    assert world_size(compose("train", *overrides).trainer) == count


@pytest.mark.parametrize(
    ("variables", "chosen"),
    [({}, []), ({"LOCAL_RANK": "1"}, [1]), ({"SLURM_LOCALID": "2"}, [2]), ({"SLURM_LOCALID": "5"}, [])],
)
def test_a_rank_takes_the_gpu_of_its_place_on_the_machine(monkeypatch, variables, chosen):
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    taken = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    _select_gpu()
    assert taken == chosen


@pytest.mark.parametrize(("visible", "given"), [(None, ["0", "1", "0"]), ("2,GPU-a1", ["2", "GPU-a1", "2"])])
def test_shards_take_turns_on_the_visible_gpus(monkeypatch, visible, given):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [_gpu_environment(index)["CUDA_VISIBLE_DEVICES"] for index in range(3)] == given


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"RANK": "1"}, "RANK=1 is set, with WORLD_SIZE=unset"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 is set, with WORLD_SIZE=2"),
        ({"RANK": "one"}, "RANK=one"),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "1"}, "SLURM_PROCID=1"),
    ],
)
def test_a_rank_of_no_launcher_is_refused(monkeypatch, variables, said):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PmgError, match=said):
        check_rank()
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "2")
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    check_rank()


def test_uneven_shares_are_refused(compose, tmp_path):
    cfg = compose("train", "trainer=ddp", CPU, "trainer.devices=3")
    with pytest.raises(PmgError, match=r"users_per_step=32 is no multiple of the 3 processes .*Use 33\."):
        run_distributed(lambda run: None, Run(tmp_path, "train"), cfg.trainer, users=32, seed=0)


def test_other_machines_are_started_from_outside(compose, tmp_path, monkeypatch):
    for name in ("RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    cfg = compose("train", "trainer=multi_node")
    with pytest.raises(PmgError, match="torchrun or srun"):
        run_distributed(lambda run: None, Run(tmp_path, "train"), cfg.trainer, users=32, seed=0)


@pytest.mark.ci
@pytest.mark.slow
def test_how_many_share_the_work_is_no_part_of_a_runs_identity(compose):
    alone = identify(compose("train"), "train")
    for trainer in ("ddp", "fsdp", "multi_node"):
        assert identify(compose("train", f"trainer={trainer}"), "train") == alone
    assert identify(compose("train", "trainer=ddp", "trainer.max_steps=5"), "train") != alone

    def made_by(*overrides):
        return hash_values(identify(compose("generate", *overrides), "generate"))

    assert made_by("shard.count=4", "keep_contexts=false") == made_by()
    assert len({made_by(), *(made_by("shard.count=4", f"shard.index={index}") for index in range(2))}) == 3


def test_looking_at_the_hardware_draws_no_random_number(compose):
    before = torch.get_rng_state()
    check_device("cpu")
    check_trainer(compose("train", CPU).trainer)
    assert torch.equal(torch.get_rng_state(), before)
