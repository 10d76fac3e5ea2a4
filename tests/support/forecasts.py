"""What tests of memory forecasts share: a real step, and models without weights."""

from __future__ import annotations

from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile

from pmg.models.diffusion.conditioning import Block
from pmg.models.diffusion.text_encoder import TextSizes
from pmg.models.language.language_model import load_language_model
from pmg.models.loading.checkpoints import without_weights
from pmg.models.preference.preference_encoder import PreferenceEncoder
from pmg.training.memory_forecast import Sizes
from pmg.training.objective import Denoise
from pmg.training.optim import adamw, constant
from pmg.training.preference import PARTS, EncodedTexts, FrozenModels, PreferenceTraining

ENCODER = {"soft_tokens": 4, "prefix_length": 3}
SIZES = Sizes(
    users=100, history_tokens=60, users_per_step=8, draws=3, soft_tokens=4, texts=TextSizes(77, 77, 32, 32),
    inputs=lambda context: context,
    encoder=partial(PreferenceEncoder.sized, **ENCODER),
)  # fmt: skip
TERMS = {"denoise": Denoise(1.0)}


def allocated(work):
    """The most bytes that the allocator handed out at once while `work` ran."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    changes = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        now += change.nbytes()
        peak = max(peak, now)
    return peak


def read_language_model(folder, dtype="float32"):
    """A language model without weights."""
    with without_weights():
        return load_language_model(folder, dtype, "unused")


def read_generator(load, folder, **options):
    """A generator without weights."""
    with without_weights():
        return load(folder, **options)


def real_step(language_model, generator, sizes=SIZES):
    """A training step on real tensors, made ready."""
    torch.manual_seed(0)
    users, questions = sizes.users_per_step, sizes.users_per_step * sizes.draws
    context = language_model.prefill_tokens([torch.randint(300, (SIZES.history_tokens,)) for _ in range(users)])
    inputs = sizes.inputs(context)
    encoder = sizes.encoder(language_model, sizes.texts.width, inputs.select(range(2))).train()
    targets, words, empty = (
        Block(
            torch.randn(rows, tokens, sizes.texts.width),
            torch.ones(rows, tokens, dtype=torch.bool),
            torch.randn(rows, sizes.texts.pooled),
        )
        for rows, tokens in (
            (questions, sizes.texts.target),
            (users, sizes.texts.keywords),
            (1, sizes.texts.target),
        )
    )
    module = PreferenceTraining(
        encoder=encoder, frozen=FrozenModels(language_model, generator), user_inputs=inputs,
        texts=EncodedTexts(targets, words, empty), terms=TERMS, optimizer=adamw(0.1), lr_scheduler=constant,
    )  # fmt: skip
    latents = torch.zeros(questions, *generator.latent_shape)
    batch = {
        "users": torch.arange(users), "target": torch.arange(questions), "latents": latents,
        **generator.sample_inputs(questions, torch.Generator().manual_seed(0)),
        **{f"keep_{part}": torch.ones(questions, dtype=torch.bool) for part in PARTS},
    }  # fmt: skip
    return lambda: module.step_outputs(batch).own.loss.mean().backward()
