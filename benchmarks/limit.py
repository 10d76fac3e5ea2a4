"""The limit: arithmetic rates of the denoiser and of reading histories against the machine's best matrix product."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.stack import Plan, build_drawing, build_requests, build_study
from benchmarks.timing import timed

REPEATS = 5


def rate(work: Callable[[], Any], repeats: int = REPEATS) -> dict[str, float]:
    """Operations of `work` (multiplications and additions of matrices and convolutions), in all and a second."""
    with FlopCounterMode(display=False) as counter:
        work()
    operations = counter.get_total_flops()
    seconds = statistics.median(timed(work)() for _ in range(repeats))
    return {"operations": float(operations), "seconds": seconds, "rate": operations / seconds}


def matrix_rate(sides: tuple[int, ...], dtype: torch.dtype) -> float:
    """The best rate of square matrix products of these sides."""
    best = 0.0
    for side in sides:
        left, right = (torch.randn(side, side).to(dtype) for _ in range(2))
        best = max(best, rate(lambda left=left, right=right: left @ right)["rate"])
    return best


@torch.no_grad()
def measure(plan: Plan) -> dict[str, Any]:
    """Rates of a batch of denoising steps and of prefilling a batch of histories, and shares of the best rate."""
    study = build_study(plan)
    examples = study.examples("test")[: plan.batch]
    requests, pipeline = build_requests(study, examples), build_drawing(study)
    histories, language_model = study.histories(examples), study.extractor.language_model
    types = {
        "denoiser": torch.bfloat16 if pipeline.bfloat16 else pipeline.generator.denoiser.model.dtype,
        "prefill": language_model.model.dtype,
    }
    work = {"denoiser": lambda: pipeline.denoise(requests), "prefill": lambda: language_model.prefill(histories)}
    found: dict[str, Any] = {}
    for name, run in work.items():
        best = matrix_rate(plan.matrix, types[name])
        measured = rate(run)
        found[name] = {**measured, "dtype": str(types[name]), "best": best, "share": measured["rate"] / best}
    return found
