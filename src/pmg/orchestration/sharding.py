"""The shards of ``pmg-generate`` and ``pmg-evaluate``: one of them, or all of them in processes of this machine.

With `shard.index` a command does one part, in its own run folder, wherever a cluster or another launcher runs it.
Without, it does the parts that are missing, each in a process, and merges all: `shards/0`, `shards/1` and so on in
its run folder.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pmg.configuration.instantiate import fixed_folders
from pmg.orchestration.process_pool import Job, work_apart
from pmg.orchestration.run import Body, Run, execute_part, finished
from pmg.runs.run_folder import identify, read_run, refuse_other
from pmg.tracking.tracker import Tracking

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pmg.generation.record_shards import Shard


def is_dealt(cfg: DictConfig) -> bool:
    """Whether the command is one that has its parts done."""
    return cfg.shard.count > 1 and cfg.shard.index is None


def own_shard(cfg: DictConfig) -> Shard:
    """The part that this process does; the whole where nothing is dealt."""
    from pmg.generation.record_shards import Shard

    return Shard(cfg.shard.index or 0, cfg.shard.count)


def work_shards(cfg: DictConfig, run: Run, command: str, body: Body) -> list[Path]:
    """Does what is missing of the parts, and returns their folders; what they counted is in the run's ledger.

    Raises:
        PmgError: parts failed; what the others did is kept.
    """
    from pmg.generation.record_shards import sum_counts

    parts = [_part(cfg, run, index) for index in range(cfg.shard.count)]
    folders = [Path(part.run_dir) for part in parts]
    for part in parts:
        refuse_other(Path(part.run_dir), command, identify(part, command), part.get("dtype"))
    run.begin()
    with run.ledger.phase("shards"):
        work_apart([_job(part, command, body) for part in parts if not finished(part, command)])
    for name, amount in sum_counts([read_run(folder, command)[1]["ledger"] for folder in folders]).items():
        run.ledger.count(name, amount)
    return folders


def _part(cfg: DictConfig, run: Run, index: int) -> DictConfig:
    part = fixed_folders(cfg)
    part.run_dir = str(run.folder / "shards" / str(index))
    part.shard.index = index
    part.logger = None  # the whole is tracked
    return part


def _job(part: DictConfig, command: str, body: Body) -> Job:
    index, folder = part.shard.index, Path(part.run_dir)
    environment = _own_gpu(index)
    work = partial(execute_part, part, command, body, Tracking())
    return Job(f"shard {index} of {part.shard.count}", work, folder / f"{command}.log", environment)


def _own_gpu(index: int) -> dict[str, str]:
    """Gives shards the machine's GPUs in turn."""
    import torch

    gpus = torch.cuda.device_count()
    return {"CUDA_VISIBLE_DEVICES": str(index % gpus)} if gpus else {}
