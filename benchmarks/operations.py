"""How much a training and a picture have to compute: their own code on tensors without content, operations counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from pmg_janus.image_transformer import TokenDecoding
from pmg_janus.token_generator import ImageTokenGenerator
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pmg.models.diffusion.conditioning import Block, Condition, join
from pmg.models.diffusion.generator import DiffusionGenerator
from pmg.models.language.language_model import LanguageModel
from pmg.training.memory_forecast import (
    ENCODE_AT_ONCE,
    READ_AT_ONCE,
    MeasurableGenerator,
    Sizes,
    build_phases,
    empty_encoder,
)
from pmg.training.objective import ObjectiveTerm


class CountableGenerator(MeasurableGenerator, Protocol):
    """A generator whose operations can be counted without weights."""

    def decode_pass(self, latents: Tensor) -> Tensor:
        """Returns images `(B, 3, size, size)` of latents `(B, *latent_shape)`, both on the device of the weights."""
        ...


@dataclass(frozen=True)
class Operations:
    """Floating point operations, a multiplication and an addition being two.

    Attributes:
        history: to read one history.
        drawing: to encode one image.
        question: of one (target, noise, timestep), forward and backward, with its share of its user's soft tokens.
        evaluation: of the model that runs once a step, for one image and branch of the guidance.
        decoding: of one image.
    """

    history: float
    drawing: float
    question: float
    evaluation: float
    decoding: float


def count_operations(
    language_model: LanguageModel, generator: CountableGenerator, sizes: Sizes, terms: Mapping[str, ObjectiveTerm]
) -> Operations:
    """Counts on models without weights (`pmg.models.loading.checkpoints.without_weights`).

    Args:
        language_model: frozen.
        generator: frozen.
        sizes: of the training.
        terms: of the objective.
    """
    phases = build_phases(empty_encoder(language_model, sizes), language_model, generator, sizes, terms)
    questions = sizes.users_per_step * sizes.draws
    return Operations(
        _count(phases["read histories"]) / READ_AT_ONCE,
        _count(phases["encode images"]) / min(ENCODE_AT_ONCE, generator.images_at_once),
        _count(phases["training step"]) / questions,
        _count_evaluation(generator, sizes),
        _count(lambda: _decode(generator)),
    )


def _count(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@torch.no_grad()
def _decode(generator: CountableGenerator) -> None:
    generator.decode_pass(torch.zeros(1, *generator.latent_shape, device="meta"))


@torch.no_grad()
def _evaluate(generator: object, condition: Condition) -> int:
    """Runs evaluations for each row of a condition as sampling does, on zeros or any tokens; returns their number."""
    if isinstance(generator, ImageTokenGenerator):
        decoding = TokenDecoding(generator.transformer, generator.sequence(condition))
        for _ in range(1, generator.tokenizer.tokens):
            decoding.append(decoding.logits.argmax(-1))
        return generator.tokenizer.tokens
    assert isinstance(generator, DiffusionGenerator)
    shapes = (generator.latent_shape, ())
    noisy, times = (torch.zeros(len(condition), *shape, device=generator.device) for shape in shapes)
    generator.predict(noisy, times, condition)
    return 1


def _count_evaluation(generator: CountableGenerator, sizes: Sizes) -> float:
    tokens = sizes.texts.target + sizes.texts.keywords + sizes.soft_tokens
    with torch.device("meta"):
        seen = torch.ones(1, tokens, dtype=torch.bool)
        block = Block(torch.zeros(1, tokens, sizes.texts.width), seen, torch.zeros(1, sizes.texts.pooled))
    with FlopCounterMode(display=False) as counter:
        evaluations = _evaluate(generator, join(block))
    return counter.get_total_flops() / evaluations
