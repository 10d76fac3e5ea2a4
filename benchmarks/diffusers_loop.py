"""Generation against a plain loop of diffusers of the same pictures: same batch, solver, steps, guidance."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch._inductor.config as inductor
from torch import Tensor

from benchmarks.plain_generation import plain_generator
from benchmarks.plain_models import PlainModels, plain_models
from benchmarks.stack import Plan, build_drawing, build_requests, build_study
from benchmarks.timing import alternate, speedup, timed
from pmg.generation.pipeline import Pipeline
from pmg.generation.requests import Request
from pmg.models.compilation import compile_models

Draw = Callable[[list[Request]], Tensor]


def draw(pipeline: Pipeline, requests: list[Request]) -> Tensor:
    """Returns PMG's candidates, not scored: a loop of diffusers scores none."""
    return pipeline.generator.decode(pipeline.denoise(requests))


def compiled(pipeline: Pipeline, plain: PlainModels, plan: Plan) -> tuple[Pipeline, PlainModels]:
    """Returns both ways with compiled denoisers, which are compiled when they are first called."""
    ours = copy.copy(pipeline)
    ours.generator = copy.deepcopy(pipeline.generator)
    compile_models(ours.generator, None, plan.folder / "compiled")
    inductor.freezing = True  # as in PMG: constant weights
    denoiser = copy.deepcopy(plain.denoiser)
    denoiser.compile()
    return ours, replace(plain, denoiser=denoiser)


def difference(ours: Tensor, theirs: Tensor) -> dict[str, float]:
    """Returns the largest and the mean absolute difference of pictures in [-1, 1]."""
    gap = (ours - theirs).abs()
    return {"max": float(gap.max()), "mean": float(gap.mean())}


def fastest(rates: dict[str, list[float]], kind: str) -> str:
    """Returns the name of the fastest way of a kind, compiled or not."""
    return max((name for name in rates if name.startswith(kind)), key=lambda name: statistics.median(rates[name]))


def measure(plan: Plan) -> dict[str, Any]:
    """Returns candidates a second of all ways, the best of both kinds against each other, and how pictures differ."""
    study = build_study(plan)
    requests, pipeline = build_requests(study, study.examples("test")[: plan.batch]), build_drawing(study)
    plain = plain_models(pipeline.generator)
    loop, exact = plain_generator(pipeline, plain, pipeline.steps), copy.copy(pipeline)
    exact.bfloat16 = False
    found = {
        "difference_float32": difference(draw(exact, requests), replace(loop, bfloat16=False)(requests)),
        "difference": difference(draw(pipeline, requests), loop(requests)),
    }
    ways: dict[str, Draw] = {"ours": partial(draw, pipeline), "diffusers": loop}
    if plan.compiled:
        fast, fast_plain = compiled(pipeline, plain, plan)
        ways["ours compiled"] = partial(draw, fast)
        ways["diffusers compiled"] = plain_generator(fast, fast_plain, pipeline.steps)
    with torch.no_grad():
        times = alternate(
            {name: timed(partial(way, requests)) for name, way in ways.items()}, plan.rounds, "Diffusers"
        )
    rates = {name: [len(requests) / seconds for seconds in some] for name, some in times.items()}
    best = {kind: fastest(rates, kind) for kind in ("ours", "diffusers")}
    speedups = {"speedup": speedup(*(rates[name] for name in best.values())), "best": best, "rates": rates}
    sizes = {"bfloat16": pipeline.bfloat16, "candidates": len(requests), "steps": pipeline.steps}
    return {**speedups, "uncompiled": speedup(rates["ours"], rates["diffusers"]), **found, **sizes}
