"""What share of a step is spent in the kernels that do the work, and what takes the rest (torch's profiler)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.stack import Plan, Study, build_drawing, build_requests, build_study, build_training
from benchmarks.timing import timed
from benchmarks.training import OVERRIDES, run_steps

KERNELS = {
    "matrix": ("mm", "addmm", "bmm", "baddbmm", "addbmm", "dot", "mv", "addmv", "mkldnn_linear"),
    "convolution": ("convolution", "conv2d"),
    "attention": ("scaled_dot_product", "softmax"),
    "normalisation": ("native_layer_norm", "native_group_norm", "native_batch_norm", "batch_norm", "rms_norm"),
}
WHOLE = {"mm", "addmm", "bmm", "baddbmm", "addbmm", "dot", "mv", "addmv"}  # names that must fit whole: "mm" is short
BETWEEN = "between operations (Python, Lightning)"
SHOWN = 10
WARM_UP = 2  # steps
STEP = "step"  # the range that is looked at
RANGES = (STEP, "ProfilerStep", "[pl]", "Optimizer.")  # no operations: time in them is time between operations


def kind_of(operation: str) -> str | None:
    """The kind of kernel that an operation of torch is, None for all others."""
    name = operation.removeprefix("aten::").removeprefix("_")
    for kind, parts in KERNELS.items():
        if any(name == part if part in WHOLE else part in name for part in parts):
            return kind
    return None


def shares(times: dict[str, float], wall: float) -> dict[str, Any]:
    """Shares of a step.

    Args:
        times: of each operation without what it calls, by name.
        wall: of the whole step, same unit; what no operation takes is Python's, or Lightning's.

    Returns:
        Share of each kind of kernel, of all else (``outside``), and of its `SHOWN` largest parts.
    """
    kinds = dict.fromkeys(KERNELS, 0.0)
    others = {BETWEEN: max(0.0, 1 - sum(times.values()) / wall)}
    for name, seconds in times.items():
        if (kind := kind_of(name)) is None:
            others[name] = seconds / wall
        else:
            kinds[kind] += seconds / wall
    largest = sorted(others, key=others.get, reverse=True)[:SHOWN]
    return {"kernels": kinds, "outside": 1 - sum(kinds.values()), "others": {name: others[name] for name in largest}}


def from_profile(events: Iterable[Any], seconds: float) -> dict[str, Any]:
    """Shares of the range called `STEP` in a profile's averages.

    An operation's own time is its time on the processor without that of operations that it calls.

    Args:
        events: the averages.
        seconds: that the same work takes when nobody looks: what the profiler adds is no part of a step.
    """
    times = {event.key: event.self_cpu_time_total / 1e6 for event in events}
    (watched,) = (event.cpu_time_total / 1e6 for event in events if event.key == STEP)
    own = {key: time for key, time in times.items() if not key.startswith(RANGES)}
    return shares(own, max(sum(own.values()), min(watched, seconds)))


class ProfiledSteps(pl.Callback):
    """Times as many steps as it profiles behind them; the first two warm up.

    Args:
        steps: that are timed, and as many that are profiled.

    Attributes:
        found: shares, once training has ended.
    """

    def __init__(self, steps: int) -> None:
        self.steps, self.found = steps, {}
        self.profiler = profile(activities=[ProfilerActivity.CPU])

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Begins behind a step: loading the next batch belongs to the next step."""
        done = trainer.global_step - WARM_UP
        if done == 0:
            self.began = time.perf_counter()
        elif done == self.steps:
            self.seconds = time.perf_counter() - self.began
            self.profiler.start()
            self.range = record_function(STEP).__enter__()
        elif done == 2 * self.steps:
            self.range.__exit__(None, None, None)
            self.profiler.stop()
            self.found = from_profile(self.profiler.key_averages(), self.seconds)


def profiled(work: Callable[[], Any]) -> dict[str, Any]:
    """Shares of `work`, which runs before to warm up and to be timed."""
    work()
    seconds = timed(work)()
    with profile(activities=[ProfilerActivity.CPU]) as profiler, record_function(STEP):
        work()
    return from_profile(profiler.key_averages(), seconds)


def measure(plan: Plan) -> dict[str, Any]:
    """Shares of training steps in Lightning's loop, and of a batch's denoising from noise to latents."""
    training = build_training(Study(plan, "train", *OVERRIDES, "objective.users_per_step=32"))
    steps = plan.training_steps[0]
    callback = ProfiledSteps(steps)
    run_steps(training, training.module, training.batches, WARM_UP + 2 * steps, callback)
    study = build_study(plan)
    requests = build_requests(study, study.examples("test")[: plan.batch])
    pipeline = build_drawing(study)
    return {"training": callback.found, "sampling": profiled(lambda: pipeline.denoise(requests))}
