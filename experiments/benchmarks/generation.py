"""Generation: candidates a second against a plain diffusers loop, and whether the pictures are as good."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from benchmarks.naive_generation import NaiveGenerator
from benchmarks.stack import Plan, Study, build_drawing, build_requests, build_study
from benchmarks.timing import speedup
from benchmarks.training import plain_denoiser
from pmg.domain import Example
from pmg.evaluation.image_evaluation import compute
from pmg.evaluation.metric_builders import build_metrics
from pmg.evaluation.metric_interface import References
from pmg.evaluation.statistics import paired_difference
from pmg.generation.pipeline import Pipeline
from pmg.generation.requests import Request


def build_naive(pipeline: Pipeline, steps: int) -> NaiveGenerator:
    """The naive way with a pipeline's models and scales."""
    generator, scales = pipeline.generator, pipeline.scales
    text = generator.text_encoder
    if scales.keywords != scales.soft:
        raise SystemExit("the naive way guides by the whole preference: keywords and soft need one scale")
    return NaiveGenerator(
        generator.codec.autoencoder, plain_denoiser(generator), generator.process.scheduler, text.model,
        text.tokenizer, scales.target, scales.soft, steps, pipeline.bfloat16,
    )  # fmt: skip


def draw_each(naive: NaiveGenerator, pipeline: Pipeline, requests: Sequence[Request]) -> Tensor:
    """Images `(B, 3, H, W)`, chosen among the same candidates by the same scorer, one request at a time."""
    chosen = []
    for request in requests:
        target, words = str(request.target), str(request.keywords)
        candidates = [naive.draw(target, words, request.soft_tokens, *pair, request.seed) for pair in pipeline.pairs]
        chosen.append(pipeline.select([request], torch.stack(candidates)).images[0])
    return torch.stack(chosen)


def judge(study: Study, examples: Sequence[Example], images: Tensor) -> dict[str, np.ndarray]:
    """Returns style and concept accuracy, finish error and LPIPS to the truth of each image."""
    store = study.data.images
    truths = [store.pixels(store.rows(example.truth)) for example in examples]
    nodes = {name: study.cfg.metrics[name] for name in ("look_accuracy", "lpips_truth")}
    found = compute(build_metrics(nodes).per_image, images, References(examples, truths=truths))
    return {name: np.array(column) for name, column in found.items()}


def compare(ours: dict[str, np.ndarray], naive: dict[str, np.ndarray], users: Sequence[str]) -> dict[str, Any]:
    """Means of both ways and their paired differences; equal where every interval holds 0."""
    differences = {name: asdict(paired_difference(ours[name], naive[name], np.array(users))) for name in ours}
    means = {
        way: {name: float(column.mean()) for name, column in columns.items()}
        for way, columns in (("ours", ours), ("naive", naive))
    }
    equal = all(value["low"] <= 0 <= value["high"] for value in differences.values())
    return {**means, "ours-naive": differences, "equal": equal}


def measure(plan: Plan) -> dict[str, Any]:
    """Candidates a second, batch by batch in turn; every image of both ways is judged."""
    study = build_study(plan)
    examples = study.examples("test")
    requests, pipeline = build_requests(study, examples), build_drawing(study)
    naive = build_naive(pipeline, plan.naive_steps)
    ways = {"ours": pipeline_images(pipeline), "naive": lambda batch: draw_each(naive, pipeline, batch)}
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
        "users": len(requests), "candidates": len(pipeline.pairs), "steps": plan.steps,
        "naive_steps": plan.naive_steps, "scales": asdict(pipeline.scales), "bfloat16": pipeline.bfloat16,
    }  # fmt: skip


def pipeline_images(pipeline: Pipeline) -> Any:
    """Our way as a function from requests to images."""
    return lambda requests: pipeline(requests).images
