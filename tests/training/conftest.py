"""A tiny preference training on a shop."""

from __future__ import annotations

import pytest

from pmg.cache import Cache
from pmg.models.tiny_models import tiny_language_model
from pmg.preferences.extraction import PreferenceExtractor
from pmg.preferences.keyword_decoding import Choose
from pmg.preferences.keywords import Budget
from pmg.training.latents import encode_item_images
from pmg.training.objective import Denoise
from pmg.training.optim import adamw, one_cycle
from pmg.training.preference import FrozenModels, PreferenceBatches, PreferenceTraining
from pmg.training.preference_setup import build_batches, build_module, encode_texts, list_samples, see_accepted
from shops import with_tastes


@pytest.fixture(scope="session")
def scenario(shipped):
    """The shipped scenario."""
    from pmg.configuration.instantiate import instantiate

    return instantiate(shipped.scenario)


@pytest.fixture
def training(shop, scenario, generator, tmp_path):
    """Makes module and batches; every call with the same options builds the same ones."""
    from functools import partial

    from pmg.models.preference.preference_encoder import build_preference_encoder

    def build(drop=None, placement="late", keep=True, image_encoder=None, **objective):
        import torch

        torch.manual_seed(0)
        train, validation = (
            with_tastes(shop.examples(split, users, 1)) for split, users in (("train", 8), ("validation", 4))
        )
        budget = Budget(generator.text_encoder.count_tokens, generator.text_encoder.max_length)
        extractor = PreferenceExtractor(
            tiny_language_model(), scenario, Cache(tmp_path / "cache"), "tiny", budget, keep
        )
        extracted = extractor.extract([*train, *validation], decodings=[Choose()])
        words = extractor.describe([example.target for example in (*train, *validation)])
        drop = {"target": 0.1, "keywords": 0.3, "soft": 0.0} if drop is None else drop
        collate = partial(PreferenceBatches, draws=2, drop=drop)
        keywords = extracted.keywords(Choose())
        texts, embeddings = encode_texts(keywords, list(words.values()), generator.text_encoder, keep)
        samples = list_samples(train, validation, extracted, list(words), "taste")
        accepted = image_encoder and see_accepted(image_encoder, shop.images, samples.truths, embeddings.shape[-1])
        latents = encode_item_images(generator, shop.images, samples.truths, None)
        batches = build_batches(
            samples,
            extracted.context,
            generator,
            collate,
            users_per_step=4,
            seed=0,
            latents=latents,
            accepted=accepted,
        )
        encoder = partial(
            build_preference_encoder, words="favourite style", soft_tokens=2, prefix_length=2, placement=placement
        )
        defaults = {"terms": {"denoise": Denoise(1.0)}, "optimizer": adamw(1e-2), "lr_scheduler": one_cycle}
        module = partial(PreferenceTraining, **{**defaults, **objective})
        frozen = FrozenModels(extractor.language_model, generator)
        return build_module(frozen, extracted.context, texts, embeddings, encoder, module), batches

    return build
