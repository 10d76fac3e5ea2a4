"""Generation as a plain loop of diffusers: everything is computed in each call, in one batch.

One request at a time with many steps it is the naive way; a whole batch with PMG's number of steps is the best that a
user of diffusers gets without further work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import SchedulerMixin
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks.plain_models import PlainModels, Texts
from pmg.generation.guidance import LeaveOneOutScales
from pmg.generation.pipeline import Pipeline
from pmg.generation.requests import Request


@dataclass(frozen=True)
class PlainGenerator:
    """Draws images.

    Attributes:
        plain: the generator's models.
        scales: guidance scales of target, keywords and soft tokens.
        sampler: solver of the flow.
        steps: of the solver.
        bfloat16: whether matrix products run in bfloat16.
    """

    plain: PlainModels
    scales: LeaveOneOutScales
    sampler: SchedulerMixin
    steps: int
    bfloat16: bool

    @torch.no_grad()
    def __call__(self, requests: Sequence[Request]) -> Tensor:
        """Returns an image of each request, `(B, 3, H, W)` in [-1, 1]."""
        texts, soft_means = self.conditions(requests)
        scheduler = type(self.sampler).from_config(self.sampler.config)
        scheduler.set_timesteps(self.steps)
        config, scales = self.plain.denoiser.config, self.scales
        shape = (config.in_channels, config.sample_size, config.sample_size)
        seeds = [torch.Generator().manual_seed(request.seed) for request in requests]
        latents = torch.stack([torch.randn(shape, generator=seed) for seed in seeds])
        for time in scheduler.timesteps:
            noisy = torch.cat([latents] * 4)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
                velocity = self.plain.predict(noisy, time.expand(len(noisy)), texts, soft_means)
            everything, no_target, no_keywords, no_soft = velocity.chunk(4)
            guided = everything + (scales.target - 1) * (everything - no_target)
            guided = guided + (scales.keywords - 1) * (everything - no_keywords)
            guided = guided + (scales.soft - 1) * (everything - no_soft)
            latents = scheduler.step(guided, time, latents).prev_sample
        return self.plain.decode(latents)

    def conditions(self, requests: Sequence[Request]) -> tuple[Texts, Tensor]:
        """Returns the four branches of the guidance in one batch of `4 B` rows, and the means of their soft tokens."""
        target, words, empty = (
            self.plain.write([text(request) for request in requests])
            for text in (lambda one: str(one.target), lambda one: str(one.keywords), lambda _: "")
        )
        soft = torch.stack([request.soft_tokens for request in requests])
        tokens = Texts(soft, torch.ones(soft.shape[:2], dtype=torch.bool), soft.mean(1))
        branches = [[target, words, tokens], [empty, words, tokens], [target, tokens], [target, words]]
        joined = [torch.cat([part.tokens for part in some], 1) for some in branches]
        masks = [torch.cat([part.mask for part in some], 1) for some in branches]
        pooled = torch.cat([some[0].pooled for some in branches])
        means = torch.cat([tokens.pooled if tokens in some else torch.zeros_like(tokens.pooled) for some in branches])
        return Texts(_stack(joined), _stack(masks), pooled), means


def _stack(parts: Sequence[Tensor]) -> Tensor:
    """Returns parts `(B, L_i, ...)` as one batch, padded behind to the longest."""
    return pad_sequence([row for part in parts for row in part], batch_first=True)


def plain_generator(pipeline: Pipeline, plain: PlainModels, steps: int) -> PlainGenerator:
    """Returns the plain way with a pipeline's guidance and precision.

    Raises:
        SystemExit: the pipeline guides by another formula, or tries several weights.
    """
    if not isinstance(pipeline.scales, LeaveOneOutScales) or pipeline.pairs != [(1.0, 1.0)]:
        raise SystemExit("the plain way has leave-one-out guidance and one candidate: sampling=looks balance=one")
    return PlainGenerator(plain, pipeline.scales, pipeline.generator.process.sampler, steps, pipeline.bfloat16)
