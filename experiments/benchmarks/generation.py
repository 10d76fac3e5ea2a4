"""Generation: candidates a second against one image at a time, and whether the pictures are as good."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
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

LOWER = ("finish_error", "lpips_truth")  # better where they are lower


def draw_each(naive: PlainGenerator, pipeline: Pipeline, requests: Sequence[Request]) -> Tensor:
    """Returns images `(B, 3, H, W)`, drawn and scored one request at a time."""
    return torch.cat([pipeline.select([request], naive([request])).images for request in requests])


def judge(study: Study, examples: Sequence[Example], images: Tensor) -> dict[str, np.ndarray]:
    """Returns style and concept accuracy, finish error and LPIPS to the truth of each image."""
    store = study.data.images
    truths = [store.pixels(store.rows(example.truth)) for example in examples]
    nodes = {name: study.cfg.metrics[name] for name in ("look_accuracy", "lpips_truth")}
    found = compute(build_metrics(nodes).per_image, images, References(examples, truths=truths))
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
    """Returns candidates a second, batch by batch in turn; every image of both ways is judged."""
    study = build_study(plan)
    examples = study.examples("test")
    requests, pipeline = build_requests(study, examples), build_drawing(study)
    naive = plain_generator(pipeline, plain_models(pipeline.generator), plan.naive_steps)
    ways = {"ours": lambda batch: pipeline(batch).images, "naive": lambda batch: draw_each(naive, pipeline, batch)}
    for way in ways.values():
        way(requests[:1])
    rates: dict[str, list[float]] = {name: [] for name in ways}
    images: dict[str, list[Tensor]] = {name: [] for name in ways}
    starts = range(0, len(requests), plan.batch)
    for start in track(starts, description="Generation"):
        batch = requests[start : start + plan.batch]
        for name, way in ways.items():
            began = time.perf_counter()
            images[name].append(way(batch))
            rates[name].append(len(batch) * len(pipeline.pairs) / (time.perf_counter() - began))
    judged = {name: judge(study, examples, torch.cat(parts)) for name, parts in images.items()}
    return {
        "speedup": speedup(rates["ours"], rates["naive"]),
        "quality": compare(judged["ours"], judged["naive"], [example.user for example in examples]),
        "users": len(requests), "candidates": len(pipeline.pairs), "steps": pipeline.steps,
        "naive_steps": plan.naive_steps, "scales": asdict(pipeline.scales), "bfloat16": pipeline.bfloat16,
    }  # fmt: skip
