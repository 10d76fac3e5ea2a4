"""Shards of ``pmg-generate`` and ``pmg-evaluate``: a single one, or all of them in processes of this machine.

With `shard.index` a command computes one shard in a run folder of its own, e.g. as a job of a cluster. Without it,
the command computes the missing shards in its subfolders ``shards/0``, ``shards/1``, …, one process each, and merges
them.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pmg.configuration.portable import fixed_folders
from pmg.orchestration.process_pool import Task, run_shards
from pmg.orchestration.run import Body, Run, completed_metrics, execute_nested
from pmg.runs.run_folder import identify, read_run, refuse_other
from pmg.tracking.tracker import Tracking

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pmg.generation.record_shards import Shard


def is_sharded(cfg: DictConfig) -> bool:
    """Returns whether the command computes all shards and merges them."""
    return cfg.shard.count > 1 and cfg.shard.index is None


def own_shard(cfg: DictConfig) -> Shard:
    """Returns the shard of this process; without sharding, the single shard that contains everything."""
    from pmg.generation.record_shards import Shard

    return Shard(cfg.shard.index or 0, cfg.shard.count)


def run_missing_shards(cfg: DictConfig, run: Run, command: str, body: Body) -> list[Path]:
    """Computes the shards that aren't complete, adds the counts of all to the run's ledger, and returns their folders.

    Raises:
        PmgError: shards failed; the results of the others are kept.
    """
    from pmg.generation.record_shards import sum_counts

    shards = [_shard_config(cfg, run, index) for index in range(cfg.shard.count)]
    folders = [Path(shard.run_dir) for shard in shards]
    for shard in shards:
        refuse_other(Path(shard.run_dir), command, identify(shard, command), shard.get("dtype"))
    run.begin()
    with run.ledger.phase("shards"):
        run_shards([_shard_task(shard, command, body) for shard in shards if not completed_metrics(shard, command)])
    for name, amount in sum_counts([read_run(folder, command)[1]["ledger"] for folder in folders]).items():
        run.ledger.count(name, amount)
    return folders


def _shard_config(cfg: DictConfig, run: Run, index: int) -> DictConfig:
    """Returns the config of one shard, which has no loggers: the merged run is tracked."""
    shard = fixed_folders(cfg)
    shard.run_dir = str(run.folder / "shards" / str(index))
    shard.shard.index = index
    shard.logger = None
    return shard


def _shard_task(cfg: DictConfig, command: str, body: Body) -> Task:
    index, folder = cfg.shard.index, Path(cfg.run_dir)
    environment = _gpu_environment(index)
    work = partial(execute_nested, cfg, command, body, Tracking())
    return Task(f"shard {index} of {cfg.shard.count}", work, folder / f"{command}.log", environment)


def _gpu_environment(index: int) -> dict[str, str]:
    """Returns the variable that assigns one of the visible GPUs to a shard, round robin; nothing without GPUs."""
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",")[:count] if visible else list(map(str, range(count)))
    return {"CUDA_VISIBLE_DEVICES": gpus[index % count]} if count else {}
