"""Generates images for targets and preferences: candidates of many users in one batch, scored and selected."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pmg.configuration.instantiate import instantiate
from pmg.domain import PmgError
from pmg.generation.capability_checks import check_scales, check_start, check_steps, check_weighting
from pmg.generation.condition_weighting import Weighting
from pmg.generation.guidance import NEGATIVE, Branch, Scales
from pmg.generation.requests import Method, Request
from pmg.generation.selection import Combination, WeightedScores, Weights, noise_seeds, pick
from pmg.models.diffusion.conditioning import Block, Condition, ReferenceLatents, SoftBlock, TextBlock, join, join_seen
from pmg.models.diffusion.interfaces import Generator, Start
from pmg.models.diffusion.reference_images import ReferenceImages, encode_prompts
from pmg.models.diffusion.text_encoder import TextEncoder, hide_empty
from pmg.models.loading.device import to_device
from pmg.models.vision.scorer import Scorer
from pmg.preferences.captioning import PictureDescriber
from pmg.preferences.keywords import Budget, share_read
from pmg.records.storage import Candidate


@dataclass(frozen=True)
class Generated:
    """The result of `B` requests: the selected images `(B, 3, H, W)` in [-1, 1] and every candidate's scores."""

    images: Tensor
    candidates: list[tuple[Candidate, ...]]
    picked: list[int]


class Pipeline:
    """Draws the candidates of requests, scores them, and keeps one of each request.

    PmgError if the generator doesn't support the scales, the weighting or the steps.

    Args:
        generator: draws candidates.
        scorer: selects among them.
        weights: pairs (w_p, w_t) that are tried for each image; different pairs from the same noise.
        weighting: how a weight acts on a block.
        scales: guidance scales.
        steps: solver steps; None: the generator has none.
        bfloat16: whether the denoiser's matrix products run in bfloat16.
        texts: encodes what the scorer compares images with; None: the scorer's own, or the generator's.
        combination: of the scores; None: the paper's.
        describer: says which keywords an image shows, for d_p; None: d_p is the scorer's.
    """

    def __init__(
        self, generator: Generator, scorer: Scorer, weights: Weights, weighting: Weighting, scales: Scales,
        *, steps: int | None, bfloat16: bool = False, texts: TextEncoder | None = None,
        combination: Combination | None = None, describer: PictureDescriber | None = None,
    ) -> None:  # fmt: skip
        check_steps("sampling.steps", steps, generator.supports)
        check_weighting(weighting, weights.pairs, generator)
        check_scales(scales, generator.supports)
        self.generator, self.scorer = generator, scorer
        self.texts = scorer.text_encoder or texts or generator.text_encoder
        self.pairs, self.weighting, self.scales = weights.pairs, weighting, scales
        self.steps = steps
        self.combination, self.describer = combination or WeightedScores(), describer
        half = [one for one in getattr(generator, "parameters", list)() if one.dtype == torch.float16]
        self.bfloat16 = bfloat16 and not half  # torch's autocast doesn't mix with such weights
        self.stop_at = weights.stop_at
        self.evaluations = 0  # of the denoiser so far: each branch of the guidance, candidate, image and step counts

    def with_pairs(self, pairs: Sequence[tuple[float, float]]) -> Pipeline:
        """Returns the same pipeline with other pairs (w_p, w_t); PmgError if they have no effect on the generator."""
        check_weighting(self.weighting, pairs, self.generator)
        other = copy.copy(self)
        other.pairs = list(pairs)
        return other

    def check(self, name: str, method: Method) -> None:
        """Checks that the generator takes what a method gives it, else PmgError."""
        if method.start:
            check_start(f"method.{name}.start", self.generator.supports)
        own, other = tuple(self.generator.latent_shape), method.denoiser
        if other and other.latent_shape != own:
            key = f"method.{name}.start_denoiser"
            raise PmgError(f"{key} takes latents of {other.latent_shape}, the generator's are {own}: set {key}=null")

    @torch.no_grad()
    def __call__(
        self, requests: Sequence[Request], steps: int | None = None, scales: Scales | None = None
    ) -> Generated:
        """Returns one image a request; all requests of a batch use the same kinds of blocks.

        Where `steps` or `scales` are None, they are the pipeline's. PmgError if the generator doesn't support them.
        """
        if finished := [request.image for request in requests if request.image is not None]:
            return self.select(requests, torch.stack(finished).repeat_interleave(len(self.pairs), 0))
        if self.stop_at is not None:
            return self._draw_until(requests, self.stop_at, steps, scales)
        return self.select(requests, self.generator.decode(self.denoise(requests, steps, scales)))

    def _draw_until(
        self, requests: Sequence[Request], stop_at: float, steps: int | None, scales: Scales | None
    ) -> Generated:
        """Draws the pairs from one noise after the other; a request whose accuracy suffices takes part no more.

        Noises are those that all candidates are drawn from without `stop_at`, in their order.
        """
        seeds, once = [noise_seeds(request.seed, self.pairs) for request in requests], list(dict.fromkeys(self.pairs))
        images: list[list[Tensor]] = [[] for _ in requests]
        candidates: list[list[Candidate]] = [[] for _ in requests]
        waiting, drawing = list(range(len(requests))), self.with_pairs(once)
        for first in range(0, len(self.pairs), len(once)):
            some = [replace(requests[row], seed=seeds[row][first]) for row in waiting]
            drawn = self.generator.decode(drawing.denoise(some, steps, scales))
            for row, pictures, rated in zip(waiting, drawn.split(len(once)), drawing.rate(some, drawn), strict=True):
                images[row] += pictures
                candidates[row] += rated
            waiting = [row for row in waiting if max(each.accuracy for each in candidates[row]) < stop_at]
            if not waiting:
                break
        self.evaluations = drawing.evaluations
        picked = [int(pick(torch.tensor([[one.z for one in rated]]))) for rated in candidates]
        kept = torch.stack([pictures[place] for pictures, place in zip(images, picked, strict=True)])
        return Generated(kept, [tuple(rated) for rated in candidates], picked)

    @torch.no_grad()
    def denoise(self, requests: Sequence[Request], steps: int | None = None, scales: Scales | None = None) -> Tensor:
        """Returns latents of every candidate, `(B * C, ...)`, candidates of a request together; see `__call__`."""
        scales, supports = scales or self.scales, self.generator.supports
        steps = check_steps("steps", self.steps if steps is None else steps, supports)
        check_scales(scales, supports)
        distilled = scales.single() if supports.guidance_input else None
        # 1. encode the blocks, once a request
        target, preference = self.encode_blocks(requests)
        # 2. weight them, once a candidate, and join them to the conditions that guide
        negative = any(request.negative.words for request in requests)
        if distilled is None:
            coefficients = scales.coefficients(list(preference), negative)
        else:  # one branch: the model takes the guidance as an input
            coefficients = {("target", *preference): 1.0}
        branches = self.join_branches(requests, self.weigh(target, preference), list(coefficients))
        # 3. sample all branches of all candidates from their request's seed
        seeds = [seed for request in requests for seed in noise_seeds(request.seed, self.pairs)]
        start = self._encode_start(requests)
        begun = {} if start is None else {"start": start}  # generators without a solver need no such argument
        with torch.autocast(self.generator.device.type, torch.bfloat16, enabled=self.bfloat16):
            latents = self.generator.sample(branches, list(coefficients.values()), seeds, steps, distilled, **begun)
        self.evaluations += len(branches) * len(seeds) * steps
        return latents

    def _encode_start(self, requests: Sequence[Request]) -> Start | None:
        """Returns what each candidate starts from; None where that is noise alone. PmgError if requests are mixed."""
        if not (begun := [request for request in requests if request.start is not None]):
            return None
        ways = {(request.strength, request.start_denoiser) for request in begun}
        if len(begun) < len(requests) or len(ways) > 1:
            raise PmgError("requests of one batch start from images, with one strength and denoiser, or from noise")
        ((strength, denoiser),) = ways
        images = torch.stack([request.start for request in begun if request.start is not None])
        latents = self.generator.encode_images(images).repeat_interleave(len(self.pairs), 0)
        return Start(latents, strength, denoiser and denoiser.to(self.generator.device))

    def encode_blocks(self, requests: Sequence[Request]) -> tuple[Block, dict[str, Block]]:
        """Returns the target block, and the preference blocks in use by name, in their order."""
        preference: dict[str, Block] = {}
        if requests[0].show_keywords:
            words = [str(request.keywords) for request in requests]
            preference["keywords"] = hide_empty(self.generator.text_encoder.encode(words, padded=False), words)
        if soft := [request.soft_tokens for request in requests if request.soft_tokens is not None]:
            preference["soft"] = SoftBlock.of(torch.stack(soft))
        return self._encode_prompts(requests, [str(request.target) for request in requests]), preference

    def _encode_prompts(self, requests: Sequence[Request], texts: Sequence[str]) -> TextBlock:
        """Returns a prompt of each request, behind its reference images where the text encoder reads these."""
        return encode_prompts(self.generator, texts, _references(requests))

    def weigh(self, target: Block, preference: dict[str, Block]) -> dict[str, Block]:
        """Returns each request's blocks under every pair of weights, `(B * C)` rows, those of a request together."""
        pairs = torch.tensor(self.pairs)
        w_p, w_t = pairs.repeat(len(target), 1).T
        weighed = {name: self.weighting(block.repeat(len(pairs)), w_p) for name, block in preference.items()}
        return {"target": self.weighting(target.repeat(len(pairs)), w_t), **weighed}

    def join_branches(
        self, requests: Sequence[Request], blocks: dict[str, Block], branches: Sequence[Branch]
    ) -> list[Condition]:
        """Returns the condition of each branch of the guidance, `(B * C)` rows each."""
        empty = self._encode_prompts(requests, [""] * len(requests)).repeat(len(self.pairs))
        negative, times = [str(request.negative) for request in requests], len(self.pairs)
        joined = [
            join(self._encode_prompts(requests, negative).repeat(times)) if seen == NEGATIVE
            else join_seen(blocks, empty, seen)
            for seen in branches
        ]  # fmt: skip
        if not (images := _references(requests)):
            return joined
        # all branches see them, as in diffusers' pipelines
        references = ReferenceLatents.of([each.latents for each in images]).repeat(len(self.pairs))
        return [replace(condition, references=references) for condition in joined]

    def select(self, requests: Sequence[Request], images: Tensor) -> Generated:
        """Returns the candidate `(B * C, 3, H, W)` of the best z of each request, with all scores d_p and d_t."""
        candidates = self.rate(requests, images)
        picked = [int(pick(torch.tensor([[one.z for one in rated]]))) for rated in candidates]
        rows = [number * len(self.pairs) + place for number, place in enumerate(picked)]
        return Generated(images[rows], candidates, picked)

    def rate(self, requests: Sequence[Request], images: Tensor) -> list[tuple[Candidate, ...]]:
        """Returns each request's candidates `(B * C, 3, H, W)` with their scores and z."""
        preference, accuracy = self.score(requests, images)
        z = self.combination(preference, accuracy, torch.tensor([request.share for request in requests])[:, None])
        return [
            tuple(
                Candidate(w_p, w_t, float(p) if request.has_preference_score else None, float(t), float(score))
                for (w_p, w_t), p, t, score in zip(self.pairs, *row, strict=True)
            )
            for request, *row in zip(requests, preference, accuracy, z, strict=True)
        ]

    def score(self, requests: Sequence[Request], images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the scores d_p and d_t of each candidate, `(B, C)` each: cosines with its keywords.

        With a `describer`, d_p is the share of the keywords that it reads in the candidate, see `share_read`.
        """
        encode, device = self.texts.encode, self.scorer.device
        content, style = (vectors.cpu() for vectors in self.scorer(images.to(device)))
        shape = (len(requests), len(self.pairs), -1)
        budget = Budget.of(self.texts)  # a scorer may read less than the generator
        targets = encode([str(budget.fit_target(request.target)) for request in requests]).pooled.to(device)
        accuracy = (content.view(shape) * self.scorer.encode_target(targets).cpu()[:, None]).sum(-1)
        if not any(request.has_preference_score for request in requests):
            preference = torch.ones_like(accuracy)
        elif self.describer is not None:
            read = self.describer.describe(images)
            rows = [share_read(requests[place // shape[1]].wanted, words) for place, words in enumerate(read)]
            preference = torch.tensor(rows).view_as(accuracy)
        else:
            words = encode([str(budget.fit(request.wanted)) for request in requests]).pooled.to(device)
            preference = (style.view(shape) * self.scorer.encode_preference(words).cpu()[:, None]).sum(-1)
        return preference, accuracy


def _references(requests: Sequence[Request]) -> list[ReferenceImages]:
    """Returns the reference images of each request; an empty list where requests have none."""
    return [request.references for request in requests if request.references is not None]


def build_pipeline(parts: Mapping[str, Any], device: str, create: Callable[[Any], Any] = instantiate) -> Pipeline:
    """Returns the pipeline of a config's ``generator``, ``scorer``, ``text_encoder``, ``balance`` and ``sampling``."""
    scorer = create(parts["scorer"])  # with its own text encoder, or the one that it was trained with
    texts = None if scorer.text_encoder else to_device(create(parts["text_encoder"]), device)
    balance, sampling = parts["balance"], parts["sampling"]
    return Pipeline(
        to_device(create(parts["generator"]), device), to_device(scorer, device), create(balance["weights"]),
        create(balance["weighting"]), create(sampling["scales"]), steps=sampling["steps"],
        bfloat16=sampling.get("bfloat16", False), texts=texts, combination=create(balance["combination"]),
        describer=_build_describer(balance.get("captioner"), create),
    )  # fmt: skip


def _build_describer(node: Any, create: Callable[[Any], Any]) -> PictureDescriber | None:
    """Returns the captioner of ``balance.captioner``; None without one, PmgError if it gives no words by name."""
    describer = create(node) if node else None
    if describer is not None and not hasattr(describer, "describe"):
        raise PmgError(
            f"balance.captioner: {type(describer).__name__} gives no words by attribute, which d_p is the share of. "
            "Set captioner=measured, or balance=default"
        )
    return describer
