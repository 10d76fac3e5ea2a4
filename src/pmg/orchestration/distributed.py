"""Distributed training: ranks started here on one machine, or by torchrun or a cluster on several."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from pmg.domain import PmgError
from pmg.orchestration.process_pool import Task, run_ranks
from pmg.orchestration.run import Run, seed_everything
from pmg.runs.ledger import Ledger
from pmg.runs.process_state import local_rank
from pmg.tracking.tracker import Tracking

Work = Callable[[Run], float | None]


def run_distributed(work: Work, run: Run, trainer: Mapping[str, Any], *, users: int, seed: int | None) -> float | None:
    """Runs a training in `trainer.devices` times `trainer.num_nodes` processes.

    `work` is a partial of a module's function, since it is pickled; what it returns in rank 0 is returned, and `run`
    receives the metrics, seconds and counts of that rank. The processes share the `users` of a step. `seed` is of each
    rank's random number generators. PmgError if `users` is no multiple of the number of processes, a process failed,
    or the training spans several machines and no launcher started the ranks.
    """
    count = world_size(trainer)
    if users % count:
        raise PmgError(
            f"objective.users_per_step={users} is no multiple of the {count} processes (trainer.devices times "
            f"trainer.num_nodes). Use {max(1, round(users / count)) * count}."
        )
    if count == 1 or "RANK" in os.environ or "SLURM_PROCID" in os.environ:
        return _run_alone(work, run)
    if trainer.get("num_nodes", 1) > 1:
        raise PmgError(
            f"trainer.num_nodes={trainer['num_nodes']}: no launcher has started the ranks of the other machines. "
            "Start the command with torchrun or srun, see docs/scaling.md."
        )
    run.begin()
    (result, metrics, made, seconds, counts), *_ = run_ranks(_rank_tasks(work, run, count, seed))
    run.metrics.update(metrics)
    run.made.update(made)
    run.ledger.seconds.update(seconds)
    run.ledger.count_nested(counts)
    return result


def world_size(trainer: Mapping[str, Any]) -> int:
    """Returns the number of ranks: devices times machines; devices are a count, a list, a string of either, or all."""
    devices = trainer["devices"]
    if devices in ("auto", -1, "-1"):
        import torch

        devices = 1 if trainer["accelerator"] == "cpu" else max(1, torch.cuda.device_count())
    if isinstance(devices, str):  # as Lightning reads them: "2" is a count, "0,1" and "1," are lists
        devices = [part for part in devices.split(",") if part.strip()] if "," in devices else int(devices)
    return (devices if isinstance(devices, int) else len(devices)) * int(trainer.get("num_nodes") or 1)


def _rank_tasks(work: Work, run: Run, count: int, seed: int | None) -> list[Task]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    rendezvous = {"WORLD_SIZE": str(count), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    tasks = []
    for rank in range(count):
        own = replace(run, ledger=Ledger(), metrics={}, made={}, tracking=Tracking(), is_main=rank == 0)
        own.begun = True
        log = run.folder / (f"{run.command}.rank{rank}.log" if rank else f"{run.command}.log")
        environment = {**rendezvous, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        train = partial(_run_rank, work, own, seed)
        tasks.append(Task(f"process {rank} of {count}", train, log, environment, console=rank == 0))
    return tasks


def _run_rank(work: Work, run: Run, seed: int | None) -> tuple[Any, ...]:
    """Runs one rank's training and returns its result, metrics, digests of what it made, seconds and counts."""
    seed_everything(seed)
    return _run_alone(work, run), run.metrics, run.made, run.ledger.seconds, run.ledger.counts


def _run_alone(work: Work, run: Run) -> float | None:
    """Runs the training of this process, on its own GPU if there is one."""
    from torch import distributed

    _select_gpu()
    result = work(run)
    if distributed.is_initialized():  # else watchdog threads of NCCL or Gloo may abort the process at exit
        distributed.destroy_process_group()
    return result


def _select_gpu() -> None:
    """Makes the GPU of this process's local rank the default one, where it sees those of other ranks as well."""
    import torch

    number = local_rank()
    if number is not None and number < torch.cuda.device_count():
        torch.cuda.set_device(number)
