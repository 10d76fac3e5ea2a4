"""From a target and a preference to an image: candidates of many users in one batch, scored and picked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pmg.domain import Keywords
from pmg.generation.balance import WeightGrid, balance_z, pick
from pmg.generation.records import Candidate
from pmg.models.conditioning import Block, Condition, join
from pmg.models.generator import Generator
from pmg.models.sampling import sample_latents
from pmg.models.scorer import Scorer


@dataclass(frozen=True)
class Method:
    """Which blocks of the preference a method uses.

    Attributes:
        keywords: the language model's explicit keywords.
        soft: the preference encoder's soft tokens.
        oracle: the true taste in words, which only a simulation knows (an upper bound, not a method).
    """

    keywords: bool = False
    soft: bool = False
    oracle: bool = False

    @property
    def personal(self) -> bool:
        """Whether the user matters at all."""
        return self.keywords or self.soft or self.oracle


@dataclass(frozen=True)
class Request:
    """One image to make.

    Attributes:
        target: target keywords.
        words: preference in words, also what d_p compares the image with; empty for none.
        show_words: whether the denoiser sees `words`.
        soft: soft tokens `(n, D)`, or None.
        seed: seed of the noise.
    """

    target: Keywords
    words: str
    show_words: bool
    soft: Tensor | None
    seed: int


@dataclass(frozen=True)
class Generated:
    """What came of `B` requests: the picked images `(B, 3, H, W)` in [-1, 1] and every candidate's scores."""

    images: Tensor
    candidates: list[tuple[Candidate, ...]]
    picked: list[int]


class Pipeline:
    """Inference only.

    Args:
        generator: frozen models.
        scorer: selects among candidates.
        weights: pairs (w_p, w_t) that are tried for each image, all from the same noise.
        alpha: weight of the preference score in z, 0 to 1.
        steps: solver steps.
        guidance: guidance scale.
        bfloat16: whether the denoiser's matrix products run in bfloat16.
    """

    def __init__(
        self, generator: Generator, scorer: Scorer, weights: WeightGrid, alpha: float, steps: int, guidance: float,
        bfloat16: bool = False,
    ) -> None:  # fmt: skip
        self.generator, self.scorer = generator, scorer
        self.weights, self.alpha, self.steps, self.guidance = weights, alpha, steps, guidance
        self.bfloat16 = bfloat16

    @torch.no_grad()
    def __call__(self, requests: Sequence[Request]) -> Generated:
        """Makes one image a request; all requests of a batch use the same kinds of blocks."""
        # 1. encode the blocks, once a request
        target, preference = self.encode_blocks(requests)
        # 2. weigh them, once a candidate
        condition = self.weigh(target, preference)
        # 3. denoise all candidates from their request's noise
        noise = self.draw_noise(requests).repeat_interleave(len(self.weights.pairs), 0)
        empty = self.generator.text_encoder.encode([""])
        unconditional = join(empty.expand(len(noise)))
        with torch.autocast(noise.device.type, torch.bfloat16, enabled=self.bfloat16):
            latents = sample_latents(self.generator, condition, unconditional, noise, self.steps, self.guidance)
        images = self.generator.decode(latents)
        # 4. score and pick
        return self.select(requests, images)

    @property
    def evaluations(self) -> int:
        """Denoiser evaluations an image: every candidate and step, with and without the condition."""
        return 2 * self.steps * len(self.weights.pairs)

    def encode_blocks(self, requests: Sequence[Request]) -> tuple[Block, list[Block]]:
        """The target block and the preference blocks in use."""
        encode = self.generator.text_encoder.encode
        preference = []
        if requests[0].show_words:
            preference.append(encode([request.words for request in requests]))
        if requests[0].soft is not None:
            tokens = torch.stack([request.soft for request in requests])
            preference.append(Block(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool)))
        return encode([str(request.target) for request in requests]), preference

    def weigh(self, target: Block, preference: Sequence[Block]) -> Condition:
        """Each request's blocks under every pair of weights, `(B * C)` rows, candidates of a request together."""
        pairs = torch.tensor(self.weights.pairs)
        w_p, w_t = pairs.repeat(len(target), 1).T
        blocks = [block.repeat(len(pairs)).scaled(w_p) for block in preference]
        return join(target.repeat(len(pairs)).scaled(w_t), *blocks)

    def draw_noise(self, requests: Sequence[Request]) -> Tensor:
        """Each request's own noise, `(B, C, h, w)`: the same in any batch."""
        shape = self.generator.latent_shape
        return torch.stack(
            [torch.randn(shape, generator=torch.Generator().manual_seed(request.seed)) for request in requests]
        )

    def select(self, requests: Sequence[Request], images: Tensor) -> Generated:
        """Scores candidates `(B * C, 3, H, W)` by d_p and d_t and keeps the best z of each request."""
        accuracy, preference = self.score(requests, images)
        personal = bool(requests[0].words)
        alpha = self.alpha if personal else 0.0
        z = balance_z(preference, accuracy, alpha)
        best = pick(z)
        candidates = [
            tuple(
                Candidate(*pair, float(p) if personal else None, float(t), float(score))
                for pair, p, t, score in zip(self.weights.pairs, *row, strict=True)
            )
            for row in zip(preference, accuracy, z, strict=True)
        ]
        rows = torch.arange(len(best)) * len(self.weights.pairs) + best
        return Generated(images[rows], candidates, best.tolist())

    def score(self, requests: Sequence[Request], images: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines of each candidate with its target keywords and its preference words, `(B, C)` each."""
        encode = self.generator.text_encoder.encode
        content, manner = self.scorer(images)
        shape = (len(requests), len(self.weights.pairs), -1)
        target = self.scorer.encode_target(encode([str(request.target) for request in requests]).pooled)
        words = self.scorer.encode_preference(encode([request.words for request in requests]).pooled)
        accuracy = (content.view(shape) * target[:, None]).sum(-1)
        return accuracy, (manner.view(shape) * words[:, None]).sum(-1)
