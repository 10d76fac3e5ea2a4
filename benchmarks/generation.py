"""Generation: candidates a second against one image at a time, and whether the pictures are as good."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from benchmarks.plain_generation import PlainGenerator, plain_generator
from benchmarks.plain_models import plain_models
from benchmarks.stack import Plan, Study, build_drawing, build_requests, build_study
from benchmarks.timing import speedup
from pmg.domain import Example
from pmg.evaluation.image_evaluation import compute
from pmg.evaluation.metric_builders import build_metrics
from pmg.evaluation.metric_interface import References
from pmg.evaluation.statistics import paired_difference
from pmg.generation.pipeline import Pipeline
from pmg.generation.requests import Request

Draw = Callable[[Sequence[Request]], Tensor]
LOWER = ("finish_error", "lpips_truth")  # better where they are lower


def draw_each(naive: PlainGenerator, pipeline: Pipeline, requests: Sequence[Request]) -> Tensor:
    """Returns images `(B, 3, H, W)`, drawn and scored one request at a time."""
    return torch.cat([pipeline.select([request], naive([request])).images for request in requests])


def judge(study: Study, examples: Sequence[Example], images: Tensor) -> dict[str, np.ndarray]:
    """Returns style and concept accuracy, finish error and LPIPS to the truth of each image."""
    store = study.data.images
    truths = [store.pixels(store.rows(example.truth)) for example in examples]
    nodes = {name: study.cfg.metrics[name] for name in ("look_accuracy", "lpips_truth")}
    found = compute(build_metrics(nodes, data=study.data).per_image, images, References(examples, truths=truths))
    return {name: np.array(column) for name, column in found.items()}


def compare(ours: dict[str, np.ndarray], naive: dict[str, np.ndarray], users: Sequence[str]) -> dict[str, Any]:
    """Returns means of both ways and their paired differences; equal where no interval says that ours is worse."""
    differences = {name: asdict(paired_difference(ours[name], naive[name], np.array(users))) for name in ours}
    means = {
        way: {name: float(column.mean()) for name, column in columns.items()}
        for way, columns in (("ours", ours), ("naive", naive))
    }
    worse = [value["low"] > 0 if name in LOWER else value["high"] < 0 for name, value in differences.items()]
    return {**means, "ours-naive": differences, "equal": not any(worse)}


def measure(plan: Plan) -> dict[str, Any]:
    """Returns candidates a second, batch by batch in turn; every image of all ways is judged."""
    study = build_study(plan)
    examples = study.examples("test")
    requests, pipeline = build_requests(study, examples), build_drawing(study)
    plain = plain_models(pipeline.generator)
    ways: dict[int, Draw] = {
        steps: partial(draw_each, plain_generator(pipeline, plain, steps), pipeline) for steps in plan.naive_steps
    }
    rates, images = run_ways({0: lambda batch: pipeline(batch).images, **ways}, requests, plan.batch)
    judged = {steps: judge(study, examples, drawn) for steps, drawn in images.items()}
    users = [example.user for example in examples]
    naive = {
        steps: {"speedup": speedup(rates[0], rates[steps]), "quality": compare(judged[0], judged[steps], users)}
        for steps in ways
    }
    most, *fewer = plan.naive_steps
    return {
        **naive[most], "naive_steps": most, "fewer_steps": {steps: naive[steps] for steps in fewer},
        "users": len(requests), "candidates": len(pipeline.pairs), "steps": pipeline.steps,
        "scales": asdict(pipeline.scales), "bfloat16": pipeline.bfloat16,
    }  # fmt: skip


def run_ways(
    ways: Mapping[int, Draw], requests: Sequence[Request], size: int
) -> tuple[dict[int, list[float]], dict[int, Tensor]]:
    """Returns images a second of each way, one value a batch of `size`, and its images; a first call is left out."""
    for way in ways.values():
        way(requests[:1])
    rates: dict[int, list[float]] = {name: [] for name in ways}
    images: dict[int, list[Tensor]] = {name: [] for name in ways}
    for start in track(range(0, len(requests), size), description="Generation"):
        batch = requests[start : start + size]
        for name, way in ways.items():
            began = time.perf_counter()
            images[name].append(way(batch))
            rates[name].append(len(batch) / (time.perf_counter() - began))
    return rates, {name: torch.cat(parts) for name, parts in images.items()}
