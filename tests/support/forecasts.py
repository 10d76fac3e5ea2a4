"""What tests of memory forecasts share: a real step, and models without weights."""

from __future__ import annotations

import torch
from torch.profiler import ProfilerActivity, profile

from pmg.models.diffusion.conditioning import Block
from pmg.models.language.language_model import load_language_model
from pmg.models.loading.checkpoints import without_weights
from pmg.models.preference.image_prompt import ImagePromptEncoder
from pmg.models.preference.preference_encoder import PreferenceEncoder
from pmg.models.preference.token_encoder import UserFeatures
from pmg.models.preference.visual_encoder import VisualPreferenceEncoder
from pmg.training.memory_forecast import Sizes
from pmg.training.objective import Denoise
from pmg.training.optim import adamw, constant
from pmg.training.preference import PARTS, EncodedTexts, FrozenModels, PreferenceTraining
from pmg.training.visual_inputs import UsersPictures

SIZES = Sizes(
    users=100, history_tokens=60, users_per_step=8, draws=3, soft_tokens=4, prefix_length=3, placement="late",
    target_tokens=77, keyword_tokens=77, text_width=32, pooled_width=32,
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


def real_step(language_model, generator, placement, sizes=SIZES):
    """A training step on real tensors, made ready."""
    torch.manual_seed(0)
    users, questions = sizes.users_per_step, sizes.users_per_step * sizes.draws
    context = language_model.prefill_tokens([torch.randint(300, (SIZES.history_tokens,)) for _ in range(users)])
    shared = {
        "llm_width": language_model.width, "llm_layers": language_model.layers, "kv_heads": language_model.kv_heads,
        "head_dim": language_model.head_dim, "text_width": sizes.text_width, "soft_tokens": sizes.soft_tokens,
        "prefix_length": sizes.prefix_length,
    }  # fmt: skip
    if sizes.image_prompt:
        inputs = UserFeatures(torch.randn(users, sizes.feature_width))
        encoder = ImagePromptEncoder(sizes.feature_width, sizes.text_width, sizes.soft_tokens).train()
    elif sizes.sees:
        vectors = torch.randn(users * sizes.pictures, sizes.feature_width)
        rows = torch.arange(len(vectors)).split(sizes.pictures)
        inputs = UsersPictures(context, vectors, rows, [torch.arange(sizes.pictures) > 0] * users)
        encoder = VisualPreferenceEncoder(
            feature_width=sizes.feature_width, sees=sizes.sees, copies=sizes.copies, **shared
        ).train()
    else:
        encoder = PreferenceEncoder(placement=placement, prefix_hidden=sizes.prefix_hidden, **shared).train()
        inputs = context
    targets, words, empty = (
        Block(
            torch.randn(rows, tokens, sizes.text_width),
            torch.ones(rows, tokens, dtype=torch.bool),
            torch.randn(rows, sizes.pooled_width),
        )
        for rows, tokens in (
            (questions, sizes.target_tokens),
            (users, sizes.keyword_tokens),
            (1, sizes.target_tokens),
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
