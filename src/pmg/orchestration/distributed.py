"""Training in several processes: started here on one machine, or by torchrun or a cluster on many."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pmg.domain import PmgError
from pmg.orchestration.process_pool import Job, work_together
from pmg.orchestration.run import Body, Ledger, Run
from pmg.tracking.tracker import Tracking

if TYPE_CHECKING:
    from omegaconf import DictConfig


def across_processes(work: Body, cfg: DictConfig, run: Run) -> float | None:
    """Runs a training in as many processes as the trainer asks for.

    Args:
        work: the training, a module's function.
        cfg: its config.
        run: records it; what the first process did is added to it.

    Returns:
        What `work` returned in the first process.

    Raises:
        PmgError: a step's users can't be dealt evenly, a process failed, or other machines' processes are missing.
    """
    count = processes(cfg.trainer)
    if cfg.objective.users_per_step % count:
        users = cfg.objective.users_per_step
        raise PmgError(
            f"objective.users_per_step={users} can't be dealt evenly to {count} processes (trainer.devices times "
            f"trainer.num_nodes); the nearest that can: {max(1, round(users / count)) * count}"
        )
    if count == 1 or "RANK" in os.environ or "SLURM_PROCID" in os.environ:
        _take_device()
        result = work(cfg, run)
        _part()
        return result
    if cfg.trainer.get("num_nodes", 1) > 1:
        raise PmgError(
            f"trainer.num_nodes={cfg.trainer.num_nodes}: the processes of several machines are started from outside, "
            "by torchrun or srun: see docs/scaling.md"
        )
    run.begin()
    first, *_ = work_together(_jobs(work, cfg, run, count))
    result, metrics, seconds, counts = first
    run.metrics.update(metrics)
    run.ledger.seconds.update(seconds)
    for name, amount in counts.items():
        run.ledger.count(name, amount)
    return result


def processes(trainer: DictConfig) -> int:
    """How many processes train together: devices times machines."""
    devices = trainer.devices
    if devices in ("auto", -1, "-1"):
        import torch

        devices = 1 if trainer.accelerator == "cpu" else max(1, torch.cuda.device_count())
    return (int(devices) if isinstance(devices, (int, str)) else len(devices)) * int(trainer.get("num_nodes") or 1)


def _jobs(work: Body, cfg: DictConfig, run: Run, count: int) -> list[Job]:
    """What each process does, and how it finds the others."""
    together = {"WORLD_SIZE": str(count), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port()}
    jobs = []
    for rank in range(count):
        part = replace(run, ledger=Ledger(), metrics={}, tracking=Tracking(), leads=rank == 0, begun=True)
        log = run.folder / (f"{run.command}.rank{rank}.log" if rank else f"{run.command}.log")
        environment = {**together, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        jobs.append(
            Job(f"process {rank} of {count}", partial(_rank, work, cfg, part), log, environment, heard=rank == 0)
        )
    return jobs


def _rank(work: Body, cfg: DictConfig, run: Run) -> tuple[Any, ...]:
    """One process's training; returns what the run's record needs."""
    from pmg.orchestration.run import seed_everything

    seed_everything(cfg.seed)
    _take_device()
    result = work(cfg, run)
    _part()
    return result, run.metrics, run.ledger.seconds, run.ledger.counts


def _part() -> None:
    """Leaves the other processes in peace: threads that still wait for them may end this one by SIGABRT."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def _take_device() -> None:
    """Makes `cuda` this process's own GPU."""
    import torch

    if torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
