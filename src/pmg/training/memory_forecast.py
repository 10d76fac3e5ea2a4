"""How much memory a training takes, before anything is loaded: its own code, run on tensors without content.

Every phase runs the true classes on torch's meta device, and `LiveBytes` counts what they would hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pmg.models.diffusion.conditioning import TextBlock
from pmg.models.diffusion.interfaces import Generator
from pmg.models.diffusion.text_encoder import TextSizes
from pmg.models.language.context import Context
from pmg.models.language.grouped_attention import additive_mask
from pmg.models.language.language_model import LanguageModel
from pmg.models.loading.memory_tracker import FusedAttention, LiveBytes, weight_bytes
from pmg.models.preference.token_encoder import TokenEncoder
from pmg.training.encoder_inputs import UserInputs
from pmg.training.objective import ObjectiveTerm
from pmg.training.optim import adamw, constant
from pmg.training.preference import PARTS, EncodedTexts, FrozenModels, PreferenceTraining

READ_AT_ONCE = 32  # histories in one pass, as `LanguageModel.prefill` reads them on a GPU; a processor takes fewer
ENCODE_AT_ONCE = 32  # images in one pass, as `encode_item_images` gives them
ADAM = 4  # a trained weight, its gradient, and Adam's two moments


class MeasurableGenerator(Generator, Protocol):
    """A generator whose training can be forecast without weights: it computes on torch's device ``meta``."""

    @property
    def images_at_once(self) -> int:
        """Images in one pass of `encode_pass`."""

    @property
    def encoded_size(self) -> int:
        """Side of images to encode, in pixels."""

    def encode_pass(self, images: Tensor) -> Tensor:
        """Returns latents `(B, *latent_shape)` of images `(B, 3, H, H)` of the encoded size, on the device."""

    def frozen_models(self) -> Mapping[str, nn.Module]:
        """Returns the models beside the text encoder by name, first the one that runs once a step."""


@dataclass(frozen=True)
class Sizes:
    """What decides memory, beside the frozen models."""

    users: int  # number of profiles, whose contexts are in the cache
    history_tokens: int
    users_per_step: int  # U
    draws: int  # K, questions a user and step
    soft_tokens: int  # n, of a user
    texts: TextSizes  # of the target block, the keyword block and their widths
    inputs: Callable[[Context], UserInputs]  # gives what the encoder reads, for histories without content
    # gives the encoder for a language model, D, and some users' inputs (`TokenEncoder.sized`)
    encoder: Callable[[LanguageModel, int, Any], TokenEncoder]


@dataclass(frozen=True)
class Estimate:
    """Bytes."""

    weights: dict[str, int]  # of each frozen model on the device, by name
    trained: int  # the encoder with gradients and Adam's moments
    phases: dict[str, int]  # most that each phase holds beside weights, by name
    contexts: int  # histories in the cache on disk; the system maps what a step looks at

    @property
    def device(self) -> int:
        """The most that the device holds at once."""
        return sum(self.weights.values()) + self.trained + max(self.phases.values())


def estimate_training(
    language_model: LanguageModel, generator: MeasurableGenerator, weights: dict[str, int], sizes: Sizes,
    terms: Mapping[str, ObjectiveTerm],
) -> Estimate:  # fmt: skip
    """Forecasts a ``pmg-train``, of models without weights (`pmg.models.loading.checkpoints.without_weights`).

    `weights` are the bytes of each frozen model on the device, by name.
    """
    encoder, peaks = empty_encoder(language_model, sizes), {}
    for name, phase in build_phases(encoder, language_model, generator, sizes, terms).items():
        with FusedAttention(), LiveBytes("meta") as memory:
            phase()
        peaks[name] = memory.peak
    contexts = context_bytes(language_model, sizes.history_tokens) * sizes.users
    return Estimate(weights, trained_bytes(encoder), peaks, contexts)


def empty_encoder(language_model: LanguageModel, sizes: Sizes) -> TokenEncoder:
    """What is trained, without weights."""
    some = sizes.inputs(_context(language_model, 2, sizes.history_tokens)).select(range(2))
    return sizes.encoder(language_model, sizes.texts.width, some).to("meta").train()


def trained_bytes(encoder: TokenEncoder) -> int:
    """Bytes of an encoder with the gradients and moments of what is trained."""
    trained = sum(weight.nbytes for weight in encoder.parameters() if weight.requires_grad)
    return weight_bytes(encoder) + (ADAM - 1) * trained


def context_bytes(language_model: LanguageModel, tokens: int) -> int:
    """Bytes of one history's context."""
    per_token = 2 * language_model.layers * language_model.kv_heads * language_model.head_dim
    return per_token * language_model.model.dtype.itemsize * tokens


def build_phases(
    encoder: TokenEncoder, language_model: LanguageModel, generator: MeasurableGenerator, sizes: Sizes,
    terms: Mapping[str, ObjectiveTerm],
) -> dict[str, Callable[[], object]]:  # fmt: skip
    """What a training does, by name: `READ_AT_ONCE` histories, a batch of images, one step."""
    return {
        "read histories": partial(_read, language_model, sizes),
        "encode images": partial(_encode, generator),
        "training step": partial(_step, encoder, language_model, generator, sizes, terms),
    }


def _read(language_model: LanguageModel, sizes: Sizes) -> None:
    rows = torch.zeros(READ_AT_ONCE, sizes.history_tokens, dtype=torch.long, device="meta")
    seen = torch.ones(*rows.shape, sizes.history_tokens, dtype=torch.bool).tril()
    model = language_model.model
    with torch.no_grad():
        model.get_decoder()(input_ids=rows, attention_mask=additive_mask(seen, model), use_cache=True)


def _encode(generator: MeasurableGenerator) -> None:
    shape = (min(ENCODE_AT_ONCE, generator.images_at_once), 3, generator.encoded_size, generator.encoded_size)
    with torch.no_grad():
        generator.encode_pass(torch.zeros(shape, device="meta"))


def _step(
    encoder: TokenEncoder, language_model: LanguageModel, generator: MeasurableGenerator, sizes: Sizes,
    terms: Mapping[str, ObjectiveTerm],
) -> None:  # fmt: skip
    users, questions = sizes.users_per_step, sizes.users_per_step * sizes.draws
    target, words = _block(questions, sizes.texts.target, sizes), _block(users, sizes.texts.keywords, sizes)
    empty = _block(1, sizes.texts.target, sizes)
    inputs = sizes.inputs(_context(language_model, users, sizes.history_tokens))
    module = PreferenceTraining(
        encoder=encoder, frozen=FrozenModels(language_model, generator), user_inputs=inputs,
        texts=EncodedTexts(target, words, empty), terms=terms, optimizer=adamw(1e-3), lr_scheduler=constant,
    )  # fmt: skip
    latents = torch.zeros(questions, *generator.latent_shape)
    keep = {f"keep_{part}": torch.ones(questions, dtype=torch.bool) for part in PARTS}
    batch = {
        "users": torch.arange(users), "target": torch.arange(questions), "other_target": torch.arange(questions),
        "latents": latents, "other_latents": latents,
        "accepted": torch.zeros(questions, sizes.soft_tokens, sizes.texts.width),
        "accepted_variance": torch.ones(questions),
        "described": torch.zeros(questions, len(getattr(encoder.config, "answered", ())), dtype=torch.long),
        **generator.sample_inputs(questions, torch.Generator()), **keep,
    }  # fmt: skip
    outputs = module.step_outputs(batch)
    torch.stack([term.weight * term(outputs).mean() for term in terms.values()]).sum().backward()


def _block(rows: int, tokens: int, sizes: Sizes) -> TextBlock:
    """Encoded texts, on the processor, as a training holds them."""
    pooled = torch.zeros(rows, sizes.texts.pooled)
    return TextBlock(torch.zeros(rows, tokens, sizes.texts.width), torch.ones(rows, tokens, dtype=torch.bool), pooled)


def _context(language_model: LanguageModel, users: int, tokens: int) -> Context:
    shape = (language_model.layers, tokens, language_model.kv_heads, language_model.head_dim)
    keys = (torch.empty(1, dtype=language_model.model.dtype).expand(shape),) * users
    return Context(keys, keys, (torch.zeros(tokens, dtype=torch.long),) * users, (torch.tensor(tokens),) * users)
