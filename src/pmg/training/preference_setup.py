"""Builds a preference training: what it looks at again and again is encoded once, drawings and texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from pmg.data.dataset import ImageStore
from pmg.domain import Example, Keywords, require_positive
from pmg.models.diffusion.generator import Generator
from pmg.models.diffusion.text_encoder import UnkeptTexts
from pmg.models.preference.token_encoder import TokenEncoder
from pmg.preferences.reader import Readings
from pmg.training.datamodule import RowsDataModule, ShuffledRows
from pmg.training.encoder_inputs import UserInputs
from pmg.training.latents import encode_drawings
from pmg.training.preference import EncodedTexts, FrozenModels, PreferenceBatches, PreferenceTraining

SAMPLE = 50  # users who set the scales that an encoder starts with


def build_batches(
    train: Sequence[Example],
    validation: Sequence[Example],
    readings: Readings,
    keywords: Sequence[Keywords],
    inputs: UserInputs,
    target_words: Mapping[str, Keywords],
    catalogue: ImageStore,
    generator: Generator,
    collate: Callable[..., PreferenceBatches],
    users_per_step: int,
    seed: int,
    latents_place: str | None = None,
    keep: bool = True,
    taste_label: str | None = None,
) -> tuple[RowsDataModule, EncodedTexts, Tensor]:
    """Encodes what training looks at again and again, once: drawings and texts.

    Args:
        train: training examples.
        validation: validation examples, of other users.
        readings: histories of both.
        keywords: preference keywords, one a profile of `readings`.
        inputs: of the encoder, one row a profile; the rows of a batch are prepared one step ahead.
        target_words: target keywords by concept.
        catalogue: the drawings.
        generator: encodes drawings and texts.
        collate: makes the batches; given questions, latents and the number of timesteps.
        users_per_step: users a batch.
        seed: of the batches.
        latents_place: where latents are kept for this and later runs, see `store_latents`; None: in memory.
        keep: whether encoded keywords stay in memory; else each is encoded when a batch needs it.
        taste_label: name of the examples' label that holds a user's taste; None: each user has a taste of their own.

    Returns:
        The batches, the encoded texts, and tokens `(N, D)` of the keywords of all profiles, or of some.
    """
    require_positive(**{"objective.users_per_step": users_per_step})
    encode = generator.text_encoder.encode
    texts = [str(words) for words in keywords]
    known = encode(texts if keep else texts[:SAMPLE])
    captions = EncodedTexts(
        targets=encode([str(words) for words in target_words.values()]),
        keywords=known if keep else UnkeptTexts(generator.text_encoder, texts),
        empty=encode([""]),
    )
    concept = {name: row for row, name in enumerate(target_words)}
    samples: list[list[tuple[int, int]]] = [[] for _ in readings.profiles]
    tastes = [""] * len(samples)
    examples = [*train, *validation]
    truths = list({item.id: item for example in examples for item in example.truth}.values())
    drawn = {item.id: row for row, item in enumerate(truths)}
    for row, example in zip(readings.rows([example.profile for example in examples]), examples, strict=True):
        samples[row] += [(drawn[item.id], concept[example.target.concept]) for item in example.truth]
        tastes[row] = example.labels[taste_label] if taste_label else example.user
    timesteps = generator.noise_scheduler.config.num_train_timesteps
    latents = encode_drawings(generator, catalogue, truths, latents_place)
    batches = collate(
        samples=samples, tastes=tastes, latents=latents, shape=generator.latent_shape, timesteps=timesteps
    )
    profiles = ([example.profile for example in split] for split in (train, validation))
    learners, others = (torch.tensor(sorted(set(readings.rows(names)))) for names in profiles)
    fixed = batches.fixed(others, users_per_step, seed)
    rows = ShuffledRows(
        learners, users_per_step, seed, batches, batches.read, lambda batch: inputs.expect(batch["users"])
    )
    return RowsDataModule(rows, fixed), captions, known.tokens[known.mask]


def build_module(
    frozen: FrozenModels,
    inputs: UserInputs,
    texts: EncodedTexts,
    text_embeddings: Tensor,
    encoder: Callable[..., TokenEncoder],
    module: Callable[..., PreferenceTraining],
    sample: int = SAMPLE,
) -> PreferenceTraining:
    """Makes the untrained encoder and the module around it.

    Args:
        frozen: language model and generator.
        inputs: of the encoder, one row a profile of the readings.
        texts: encoded targets and keywords.
        text_embeddings: `(N, D)`, tokens of real keywords, which set the scale of soft tokens.
        encoder: makes the encoder.
        module: makes the module.
        sample: users whose inputs set the encoder's starting scale.
    """
    some = inputs.select(range(min(sample, len(inputs))))
    built = encoder(language_model=frozen.language_model, text_embeddings=text_embeddings, sample=some)
    return module(encoder=built.train(), frozen=frozen, histories=inputs, texts=texts)
