"""Shards of ``pmg-generate`` and ``pmg-evaluate``: a single one, or all of them in processes of this machine.

With `shard.index` a command computes one shard in a run folder of its own, e.g. as a job of a cluster. Without it,
the command computes the missing shards in its subfolders ``shards/0``, ``shards/1``, …, one process each, and merges
them.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmg.configuration.masked_folders import part_config
from pmg.domain import PmgError
from pmg.orchestration.process_pool import Task, run_shards
from pmg.orchestration.run import Body, Run, execute_nested
from pmg.runs.run_folder import SHARDS, completed_metrics, identify, read_run, refuse_other
from pmg.tracking.tracker import Tracking

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pmg.records.shards import Shard


def is_sharded(shard: Any) -> bool:
    """Returns whether the command computes all shards and merges them, by its config's `shard`."""
    return bool(shard.count > 1 and shard.index is None)


def own_shard(shard: Any) -> Shard:
    """Returns the shard of this process; without sharding, the single shard that contains everything."""
    from pmg.records.shards import Shard

    return Shard(shard.index or 0, shard.count)


def run_missing_shards(cfg: DictConfig, run: Run, command: str, body: Body) -> list[Path]:
    """Computes the shards that aren't complete, adds the counts of all to the run's ledger, and returns their folders.

    PmgError if shards failed, where the results of the others are kept, or if the config's device isn't the only GPU
    that a shard sees.
    """
    if str(cfg.device).partition(":")[2] not in ("", "0"):
        raise PmgError(
            f"device={cfg.device}: each of the {cfg.shard.count} shards sees one GPU, as cuda:0. Set device=cuda; "
            "CUDA_VISIBLE_DEVICES selects the GPUs that the shards share"
        )
    shards = [  # without loggers: the merged run is tracked
        part_config(cfg, command, f"{run.folder}/{SHARDS}/{index}", {"shard.index": index, "logger": None})
        for index in range(cfg.shard.count)
    ]
    folders = [Path(shard.run_dir) for shard in shards]
    for shard, folder in zip(shards, folders, strict=True):
        refuse_other(folder, command, identify(shard, command), shard.get("dtype"))
    run.begin()
    with run.ledger.phase("shards"):
        run_shards([
            Task(
                f"shard {index} of {cfg.shard.count}", partial(execute_nested, shard, command, body, Tracking()),
                folders[index] / f"{command}.log", _gpu_environment(index),
            )
            for index, shard in enumerate(shards) if not completed_metrics(shard, command)
        ])  # fmt: skip
    for folder in folders:
        run.ledger.count_nested(read_run(folder, command)[1]["ledger"])
    return folders


def _gpu_environment(index: int) -> dict[str, str]:
    """Returns the variable that assigns one of the visible GPUs to a shard, round robin; nothing without GPUs."""
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",")[:count] if visible else list(map(str, range(count)))
    return {"CUDA_VISIBLE_DEVICES": gpus[index % count]} if count else {}
