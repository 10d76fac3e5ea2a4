"""Fills the tables of docs/scaling.md: what Llama-2-7B and SD 1.5 need on 1, 8 and 64 GPUs. Nothing is typed by hand.

python -m benchmarks.scaling

Operations and bytes come from the code of pmg itself, run on tensors without content; `Machine` holds what is assumed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict

import pmg
from benchmarks.operations import Operations, count_operations
from pmg.commands.estimate import empty_models
from pmg.configuration.instantiate import instantiate, instantiate_by_name
from pmg.reporting.study_pages import fill
from pmg.training.memory_forecast import Sizes, context_bytes, empty_encoder, estimate_training

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "scaling.md"
MODELS = [
    "language_model=llama2_7b", "generator=sd15", "trainer=gpu", "generator.dtype=bfloat16",
    "objective.batches.draws=2", "sampling.steps=25",
]  # fmt: skip
FAMILIES = ("sd3", "flux1", "qwen_image", "z_image", "flux2_klein", "janus")
FAMILY = [
    "language_model=qwen25_05b",
    "preference_encoder=text",
    "trainer=gpu",
    "generator.dtype=bfloat16",
    "objective.batches.draws=1",
]
EMBEDDED = ["experiment=demo"]  # of which experiments/demo holds the measured seconds
GPUS = (1, 8, 64)
GIB, TIB = 2**30, 2**40


@dataclass(frozen=True)
class Machine:
    """What is assumed of the machines.

    Attributes:
        peak: operations a second of one GPU, bfloat16.
        reached: share of it that is reached.
        memory: bytes of one GPU that a training may fill.
        host: bytes a second from the processor's memory to a GPU.
        inside: bytes a second between GPUs of a machine, each way.
        between: bytes a second and GPU between machines, each way.
        gpus: of a machine.
        ram: bytes of a machine's memory.
    """

    peak: float = 312e12
    reached: float = 0.4
    memory: float = 72 * GIB
    host: float = 25e9
    inside: float = 300e9
    between: float = 25e9
    gpus: int = 8
    ram: float = 1 * TIB

    def seconds(self, operations: float) -> float:
        """Of one GPU."""
        return operations / (self.peak * self.reached)

    def wire(self, gpus: int) -> float:
        """Bytes a second of the slowest link."""
        return self.inside if gpus <= self.gpus else self.between


@dataclass(frozen=True)
class Task:
    """What is to be done.

    Attributes:
        users: with a history each, to train on.
        passes: over all users.
        step_users: users a step, of all GPUs together.
        pictures: to be made.
    """

    users: int
    passes: int = 10
    step_users: int = 64
    pictures: int = 10_000

    @property
    def steps(self) -> int:
        """Of the optimiser."""
        return self.users * self.passes // self.step_users


class Plan:
    """A task on models of a config.

    Args:
        cfg: of ``pmg-estimate``.
        machine: assumed.
    """

    def __init__(self, cfg: DictConfig, machine: Machine) -> None:
        self.language_model, self.generator, self.weights, self.sizes = empty_models(cfg)
        self.terms = instantiate_by_name(cfg.objective.module.terms)
        self.machine = machine
        self._memory: dict[int, int] = {}
        candidates = len(instantiate(cfg.balance.weights).pairs)
        steps = self.generator.supports.fixed_steps or cfg.sampling.steps
        # the guidance needs the empty condition, and that of all blocks
        branches = len(instantiate(cfg.sampling.scales).coefficients(["keywords", "soft"], False))
        branches = 1 if self.generator.supports.guidance_input else branches
        self.evaluations = candidates * steps * branches
        self.candidates = candidates
        self.trained = sum(p.numel() for p in empty_encoder(self.language_model, self.sizes).parameters())
        self.context = context_bytes(self.language_model, self.sizes.history_tokens)

    @cached_property
    def operations(self) -> Operations:
        """Of the task's parts."""
        sizes = replace(self.sizes, users_per_step=8)
        return count_operations(self.language_model, self.generator, sizes, self.terms)

    def share(self, users: int) -> Sizes:
        """Sizes of a GPU's part of a step; of two users at least, whose statistics a single process can compute."""
        return replace(self.sizes, users_per_step=max(2, users), users=0)

    def memory(self, users: int) -> int:
        """Bytes on a GPU that computes so many users at once."""
        if users not in self._memory:
            sizes = self.share(users)
            estimate = estimate_training(self.language_model, self.generator, self.weights, sizes, self.terms)
            self._memory[users] = estimate.device
        return self._memory[users]

    def fit(self, users: int) -> tuple[int, int]:
        """The users at once, a power of two, that a GPU has memory for, and how often that makes its share."""
        at_once = users
        while at_once > 1 and self.memory(at_once) > self.machine.memory:
            at_once //= 2
        return at_once, users // at_once

    def step_seconds(self, gpus: int, task: Task, kept: bool) -> dict[str, float]:
        """Seconds of a step's parts, which are not assumed to overlap."""
        users = task.step_users / gpus
        compute = users * self.sizes.draws * self.operations.question
        reading = 0.0 if kept else users * self.operations.history
        return {
            "compute": self.machine.seconds(compute),
            "contexts": self.machine.seconds(reading) if not kept else users * self.context / self.machine.host,
            "gradients": self.wire_bytes(gpus) / self.machine.wire(gpus),
        }

    def wire_bytes(self, gpus: int) -> float:
        """Bytes that a GPU sends in a step: gradients in float32, and the statistics of the batch, by all-reduce."""
        statistics = (
            3 * 2 * self.sizes.soft_tokens * self.language_model.width
        )  # forward and backward, see batch_statistics
        return 2 * (gpus - 1) / gpus * 4 * (self.trained + statistics) if gpus > 1 else 0.0

    def gathered_bytes(self, gpus: int) -> float:
        """Bytes that a GPU receives in a step with trainer=fsdp: every layer, forward and backward."""
        return 2 * (gpus - 1) / gpus * self.weights["language model"]

    def hours(self, gpus: int, task: Task, kept: bool) -> dict[str, float]:
        """Hours of each stage."""
        picture = self.evaluations * self.operations.evaluation + self.candidates * self.operations.decoding
        seconds = {
            "read": self.machine.seconds(task.users * self.operations.history) / gpus,
            "train": task.steps * sum(self.step_seconds(gpus, task, kept).values()),
            "generate": self.machine.seconds(task.pictures * picture) / gpus,
        }
        return {name: value / 3600 for name, value in seconds.items()}


def costs(plan: Plan) -> str:
    """What one example costs."""
    one, seconds = plan.operations, plan.machine.seconds
    picture = plan.evaluations * one.evaluation + plan.candidates * one.decoding
    rows = [
        ("read a history", f"{plan.sizes.history_tokens} tokens", one.history),
        ("train on a question", "forward and backward, frozen denoiser and language model", one.question),
        ("encode a drawing", f"{plan.generator.size} px, once", one.drawing),
        ("make a picture", f"{plan.evaluations} evaluations of the denoiser", picture),
    ]
    body = [[what, of, f"{count / 1e12:.2f}", f"{1000 * seconds(count):,.0f}"] for what, of, count in rows]
    return table(["one", "of", "TFLOP", "ms on a GPU"], body)


def by_family(machine: Machine) -> str:
    """What a training step and an image cost with each family of transformers, of one candidate."""
    header = [
        "generator", "generating model, text encoders", "image tokens", "train on a question", "a step of 2 questions",
        "evaluations", "an image", "ms on a GPU",
    ]  # fmt: skip
    body = []
    for name in FAMILIES:
        checkpointing = [] if name == "sd3" else ["generator.gradient_checkpointing=true"]
        choice = [f"generator={name}", f"sampling={name}", "balance.weights.preference=[1.0]", *checkpointing]
        plan = Plan(compose_all([*FAMILY, *choice]), machine)
        stepping = next(iter(plan.generator.frozen_models()))
        one, sizes = plan.operations, [plan.weights[part] / 2e9 for part in (stepping, "text encoder")]
        image = plan.evaluations * one.evaluation + plan.candidates * one.decoding
        body.append([
            f"`{name}`", f"{sizes[0]:.1f} B, {sizes[1]:.1f} B", f"{(plan.generator.size // 16) ** 2:,}",
            f"{one.question / 1e12:.0f} TFLOP", f"{plan.memory(2) / GIB:.0f} GiB", plan.evaluations,
            f"{image / 1e12:,.0f} TFLOP", f"{1000 * machine.seconds(image):,.0f}",
        ])  # fmt: skip
    return table(header, body)


def by_gpus(plan: Plan, task: Task, kept: bool) -> str:
    """A task on each number of GPUs."""
    header = [
        "GPUs", "users at once and GPU x accumulated", "memory of a GPU", "sent by a GPU, a step", "a step",
        "read", "train", f"{task.pictures:,} pictures",
    ]  # fmt: skip
    body = []
    for gpus in GPUS:
        at_once, times = plan.fit(task.step_users // gpus)
        hours, step = plan.hours(gpus, task, kept), sum(plan.step_seconds(gpus, task, kept).values())
        sent, memory = plan.wire_bytes(gpus) / 1e6, plan.memory(at_once) / GIB
        cells = [f"{gpus}", f"{at_once} x {times}", f"{memory:.0f} GiB", f"{sent:.0f} MB", f"{step:.2f} s"]
        body.append([*cells, *(duration(hours[stage]) for stage in ("read", "train", "generate"))])
    return table(header, body)


def duration(hours: float) -> str:
    """In hours, or in minutes where that says more."""
    return f"{hours:,.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"


def contexts(plan: Plan) -> str:
    """What is kept of histories, by users."""
    again = 1000 * plan.machine.seconds(plan.operations.history)
    body = [
        [f"{users:,}", f"{users * plan.context / TIB:,.2f} TiB", f"{users * plan.context / plan.machine.ram:,.1f}"]
        for users in (560, 10_000, 100_000, 1_000_000)
    ]
    fetch = 1000 * plan.context / (plan.machine.between / plan.machine.gpus)
    note = (
        f"One context: {plan.context / 1e6:.0f} MB. Computed again: {again:.0f} ms of a GPU. Fetched over a machine's "
        f"network link that its {plan.machine.gpus} GPUs share: {fetch:.0f} ms; from the processor's memory: "
        f"{1000 * plan.context / plan.machine.host:.0f} ms."
    )
    return f"{table(['users', 'contexts', 'machines whose memory they fill'], body)}\n\n{note}"


def measured(plan: Plan) -> str:
    """The same count against the clock, where there is one: the demo's seconds on two cores of a processor."""
    results = json.loads((ROOT / "experiments" / "demo" / "results.json").read_text())
    generate = results["cost"]["generate"]
    count, seconds, one = generate["denoiser_evaluations"], generate["seconds"]["generate"], plan.operations.evaluation
    body = [
        ["evaluate the denoiser", f"{count:,}", f"{seconds:,.0f}", f"{1000 * seconds / count:.1f}", f"{one / 1e9:.2f}",
         f"{count * one / seconds / 1e9:.0f}"]
    ]  # fmt: skip
    return table(["one", "times", "seconds", "ms each", "GFLOP each", "GFLOP/s reached"], body)


def table(header: Sequence[str], body: Sequence[Sequence[Any]]) -> str:
    """Markdown."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *body]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def compose_all(overrides: Sequence[str]) -> DictConfig:
    """Composes what a forecast of training and generation needs."""
    cfg, study = (pmg.compose(command, [*overrides, "run_dir=unused"]) for command in ("estimate", "study"))
    with open_dict(cfg):
        cfg.update({name: study[name] for name in ("balance", "sampling")})
    return cfg


def main() -> None:
    """Fills the document."""
    large, embedded = (compose_all(overrides) for overrides in (MODELS, EMBEDDED))
    plan = Plan(large, Machine())
    fill(DOCUMENT, "costs", costs(plan))
    fill(DOCUMENT, "gpus", by_gpus(plan, Task(users=5000), kept=True))
    fill(DOCUMENT, "contexts", contexts(plan))
    fill(DOCUMENT, "million", by_gpus(plan, Task(users=1_000_000, step_users=512, pictures=1_000_000), kept=False))
    fill(DOCUMENT, "measured", measured(Plan(embedded, Machine())))
    fill(DOCUMENT, "families", by_family(Machine()))
    print(f"{plan.trained:,} trained parameters; fsdp gathers {plan.gathered_bytes(8) / 1e9:.0f} GB a step and GPU")


if __name__ == "__main__":
    main()
