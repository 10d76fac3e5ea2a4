"""What share of a step is spent in the kernels that do the work, and what takes the rest (torch's profiler)."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
import torch
import torch._inductor.config as inductor
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.stack import Plan, Study, build_drawing, build_requests, build_study, build_training
from benchmarks.timing import timed
from benchmarks.training import OVERRIDES, run_steps
from pmg.models.compilation import compile_models

KERNELS = {
    "matrix": ("mm", "addmm", "bmm", "baddbmm", "addbmm", "dot", "mv", "addmv", "mkldnn_linear", "linear_pointwise"),
    "convolution": ("convolution", "conv2d"),
    "attention": ("scaled_dot_product", "softmax"),
    "normalisation": ("native_layer_norm", "native_group_norm", "native_batch_norm", "batch_norm", "rms_norm"),
}
# of a compiled kernel, which is named after all operations in it: those that name what it is made around
FUSED = {"attention": ("softmax",), "normalisation": ("native_layer_norm", "native_group_norm", "rsqrt")}
WHOLE = {"mm", "addmm", "bmm", "baddbmm", "addbmm", "dot", "mv", "addmv"}  # names that must fit whole: "mm" is short
BETWEEN = "between operations (Python, Lightning)"
SHOWN = 10
WARM_UP = 2  # steps
TIMED = 3  # steps for each that is profiled
STEP = "step"  # the range that is looked at
RANGES = (STEP, "ProfilerStep", "[pl]", "Optimizer.")  # no operations: time in them is time between operations


def kind_of(operation: str) -> str | None:
    """The kind of kernel that an operation of torch, or a compiled kernel, is; None for all others."""
    name = operation.removeprefix("aten::").removeprefix("_")
    for kind, parts in (FUSED if "cpp_fused" in name else KERNELS).items():
        if any(name == part if part in WHOLE else part in name for part in parts):
            return kind
    return None


def label_of(operation: str) -> str:
    """A name for what is no kernel: compiled code has names without end."""
    if operation.startswith("## Call CompiledFxGraph"):
        return "compiled graphs, between their kernels"
    return "compiled kernels of neither" if "cpp_fused" in operation else operation


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
            label = label_of(name)
            others[label] = others.get(label, 0.0) + seconds / wall
        else:
            kinds[kind] += seconds / wall
    largest = sorted(others, key=others.get, reverse=True)[:SHOWN]
    return {"kernels": kinds, "outside": 1 - sum(kinds.values()), "others": {name: others[name] for name in largest}}


def from_profile(events: Iterable[Any], seconds: float) -> dict[str, Any]:
    """Shares of the range called `STEP` in a profile's averages.

    An operation's own time is its time on the processor without that of operations that it calls.

    Args:
        events: the averages.
        seconds: that the same work takes when nobody looks: what the profiler adds is no part of a step. They are
            found again in the result.
    """
    times = {event.key: event.self_cpu_time_total / 1e6 for event in events}
    (watched,) = (event.cpu_time_total / 1e6 for event in events if event.key == STEP)
    own = {key: time for key, time in times.items() if not key.startswith(RANGES)}
    wall = max(sum(own.values()), min(watched, seconds))
    return {**shares(own, wall), "seconds": seconds}


class ProfiledSteps(pl.Callback):
    """Times steps and profiles some behind them; the first two warm up.

    Args:
        steps: that are profiled, and `TIMED` times as many that are timed: a profile of many steps fills the memory.

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
        elif done == TIMED * self.steps:
            self.seconds = (time.perf_counter() - self.began) / TIMED
            self.profiler.start()
            self.range = record_function(STEP).__enter__()
        elif done == (TIMED + 1) * self.steps:
            self.range.__exit__(None, None, None)
            self.profiler.stop()
            self.found = from_profile(self.profiler.key_averages(), self.seconds)


def profiled(work: Callable[[], Any]) -> dict[str, Any]:
    """Shares of `work`, which runs before to warm up (or to be compiled) and to be timed."""
    work()
    seconds = timed(work)()
    with profile(activities=[ProfilerActivity.CPU]) as profiler, record_function(STEP):
        work()
    return from_profile(profiler.key_averages(), seconds)


def of_training(plan: Plan, compiled: bool) -> dict[str, Any]:
    """Shares of training steps in Lightning's loop."""
    training = build_training(Study(plan, "train", *OVERRIDES))
    extractor, generator = training.study.extractor, training.study.generator
    if compiled:
        compile_models(generator, extractor.language_model, plan.folder / "compiled")
    callback = ProfiledSteps(plan.training_steps[0])
    run_steps(training, training.module, training.batches, WARM_UP + (TIMED + 1) * callback.steps, callback)
    return callback.found


def of_sampling(plan: Plan, compiled: bool) -> dict[str, Any]:
    """Shares of a batch's denoising from noise to latents."""
    study = build_study(plan)
    requests = build_requests(study, study.examples("test")[: plan.batch])
    pipeline = build_drawing(study)
    if compiled:
        compile_models(pipeline.generator, None, plan.folder / "compiled")
    return profiled(lambda: pipeline.denoise(requests))


def measure(plan: Plan) -> dict[str, Any]:
    """Shares of both steps, as they are and compiled, and how long it took to compile and measure them."""
    found = {}
    for name, of_step in {"training": of_training, "sampling": of_sampling}.items():
        found[name] = of_step(plan, compiled=False)
        if not plan.compiled:
            continue
        shutil.rmtree(plan.folder / "compiled", ignore_errors=True)
        torch._dynamo.reset()
        began = time.perf_counter()
        with inductor.patch({"cpp.enable_kernel_profile": True}):  # else its kernels have no names
            found[f"{name}_compiled"] = of_step(plan, compiled=True)
        found[f"{name}_compiled"]["until_done"] = time.perf_counter() - began
    return found
