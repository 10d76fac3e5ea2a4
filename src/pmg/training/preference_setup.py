"""Builds a preference training: its samples, texts and images are encoded once, before the first step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pmg.data.dataset import ImageStore
from pmg.domain import Example, Item, Keywords, PmgError
from pmg.models.diffusion.interfaces import Generator, PromptEncoder
from pmg.models.diffusion.text_encoder import LazyTextEncodings, hide_empty
from pmg.models.preference.token_encoder import TokenEncoder
from pmg.preferences.extraction import ExtractedPreferences
from pmg.preferences.keyword_sources import caption_parts
from pmg.preferences.scenarios import Attribute
from pmg.progress import track
from pmg.training.datamodule import RowsDataModule, ShuffledRows
from pmg.training.encoder_inputs import UserInputs
from pmg.training.latents import Latents
from pmg.training.preference import EncodedTexts, FrozenModels, PreferenceBatches, PreferenceTraining
from pmg.training.visual_inputs import BATCH, ImageEncoder

log = logging.getLogger(__name__)

SAMPLE = 50  # users who set the scales that an encoder starts with


@dataclass(frozen=True)
class TrainingSamples:
    """The samples of a training's users: one for each image that is a truth of theirs."""

    truths: list[Item]  # the different items whose images are denoised
    # for each profile pairs of an item's place in `truths` and of its target's row in the target texts
    train_pairs: list[list[tuple[int, int]]]
    # those of the examples that validate: with ``data.split_by=item`` a profile may have both
    validation_pairs: list[list[tuple[int, int]]]
    tastes: list[str]  # one a profile
    train: Tensor  # rows of the profiles that train, sorted, int64 `(U,)`
    validation: Tensor  # rows of the profiles that validate, sorted, int64 `(V,)`


def list_samples(
    train: Sequence[Example], validation: Sequence[Example], extracted: ExtractedPreferences, concepts: Sequence[str],
    taste_label: str | None = None,
) -> TrainingSamples:  # fmt: skip
    """Returns the samples of all users.

    `concepts` are those of the targets, in the order of the target texts. `taste_label` names the label that holds a
    user's taste; without it each user has a taste of their own.
    """
    examples = [*train, *validation]
    truths = list({item.id: item for example in examples for item in example.truth}.values())
    place = {item.id: number for number, item in enumerate(truths)}
    concept = {name: row for row, name in enumerate(concepts)}
    tastes = [""] * len(extracted.profiles)
    pairs, rows = [], []
    for split in (train, validation):
        own: list[list[tuple[int, int]]] = [[] for _ in tastes]
        profiles = extracted.rows([example.profile for example in split])
        for row, example in zip(profiles, split, strict=True):
            own[row] += [(place[item.id], concept[example.target.concept]) for item in example.truth]
            tastes[row] = example.labels[taste_label] if taste_label else example.user
        pairs.append(own)
        rows.append(torch.tensor(sorted(set(profiles))))
    return TrainingSamples(truths, pairs[0], pairs[1], tastes, rows[0], rows[1])


def encode_texts(
    keywords: Sequence[Keywords], targets: Sequence[Keywords], text_encoder: PromptEncoder, keep: bool = True
) -> tuple[EncodedTexts, Tensor]:
    """Encodes all texts of a training: preference keywords, one a profile, and target keywords, one a concept.

    Encoded keywords stay in memory, or, without `keep`, each is encoded when a batch needs it. The tokens `(N, D)`,
    which set the scale of soft tokens, are of the keywords of all profiles, or of some; where no profile has a
    keyword, of the targets.
    """
    texts = [str(words) for words in keywords]
    encoded = text_encoder.encode(texts if keep else texts[:SAMPLE], padded=False)
    whole = EncodedTexts(
        targets=text_encoder.encode([str(words) for words in targets]),
        keywords=hide_empty(encoded, texts) if keep else LazyTextEncodings(text_encoder, texts),
        empty=text_encoder.encode([""]),
    )
    known = encoded if any(texts) else whole.targets
    return whole, known.tokens[known.mask]


def build_batches(
    samples: TrainingSamples, inputs: UserInputs, generator: Generator, collate: Callable[..., PreferenceBatches], *,
    users_per_step: int, seed: int, latents: Latents | None, accepted: Tensor | None = None,
    described: Tensor | None = None,
) -> RowsDataModule:  # fmt: skip
    """Returns the batches of training and validation; inputs are prepared a batch ahead.

    Of the truths' images `latents` are what the generator denoises, `accepted` its tokens, see `see_accepted`, and
    `described` what captions say of them, see `describe_accepted`; None: no term needs them.
    """
    of = partial(
        collate, tastes=samples.tastes, latents=latents, generator=generator, accepted=accepted, described=described
    )
    batches = of(samples=samples.train_pairs)
    fixed = of(samples=samples.validation_pairs).fixed(samples.validation, users_per_step, seed)
    rows = ShuffledRows(
        samples.train, users_per_step, seed, batches, batches.read, lambda batch: inputs.prefetch(batch["users"])
    )
    return RowsDataModule(rows, fixed)


@torch.no_grad()
def see_accepted(image_encoder: ImageEncoder, images: ImageStore, truths: Sequence[Item], width: int) -> Tensor:
    """Returns the generator's own tokens `(N, n, D)` of true images; PmgError if the image encoder gives no tokens."""
    parts = images.rows(truths).split(BATCH)
    if not image_encoder.are_tokens:
        raise PmgError(
            f"objective.image_encoder={type(image_encoder).__name__} gives no soft tokens; "
            "`align` needs image_encoder=style"
        )
    vectors = torch.cat([image_encoder(images.pixels(rows)) for rows in track(parts, "Seeing accepted images")])
    if vectors.shape[1] % width:
        raise PmgError(
            f"the image encoder's vectors of {vectors.shape[1]} numbers are no soft tokens of this generator, "
            f"of {width} each"
        )
    return vectors.unflatten(1, (-1, width))


def describe_accepted(
    captions: Mapping[str, str], truths: Sequence[Item], attributes: Mapping[str, Attribute]
) -> Tensor:
    """Returns which option of each attribute that has some describes each truth, int64 `(N, A)`; -1: its caption none.

    `captions` are those of the truths, by id.
    """
    options = [attribute.options for attribute in attributes.values() if attribute.options]
    parts = [caption_parts(captions[item.id]) for item in truths]
    rows = [[next((k for k, word in enumerate(words) if word in one), -1) for words in options] for one in parts]
    return torch.tensor(rows)


def build_module(
    frozen: FrozenModels, inputs: UserInputs, texts: EncodedTexts, text_embeddings: Tensor,
    encoder: Callable[..., TokenEncoder], module: Callable[..., PreferenceTraining], *, sample: int = SAMPLE,
) -> PreferenceTraining:  # fmt: skip
    """Builds the untrained encoder and the module around it.

    The scale of soft tokens is that of `text_embeddings`, `(N, D)`, tokens of real keywords; the encoder's starting
    scale is that of the inputs of `sample` users.
    """
    if base := frozen.generator.supports.distilled_from:
        log.warning(
            "the generator is distilled into few steps, and the denoising loss may undo that: train with "
            "generator.source=%s, and generate with either",
            base,
        )
    some = inputs.select(range(min(sample, len(inputs))))
    built = encoder(language_model=frozen.language_model, text_embeddings=text_embeddings, sample=some)
    return module(encoder=built.train(), frozen=frozen, user_inputs=inputs, texts=texts)
