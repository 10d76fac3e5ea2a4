"""Textual inversion: it learns, each user alone, and changes no weight of a model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from inversions import start_of
from pmg.cache import Cache
from pmg.domain import PmgError
from pmg.methods.inversion import HistoryImages, InvertedTokens, invert_histories
from pmg.models.diffusion.conditioning import Block, join


@pytest.fixture
def histories(generator):
    shape = generator.latent_shape
    draws = torch.Generator().manual_seed(0)
    return [HistoryImages(torch.randn(count, *shape, generator=draws), torch.arange(count) % 2) for count in (3, 5, 4)]


@pytest.fixture
def captions(text_encoder):
    return text_encoder.encode(["red apple", "dog face"])


def test_users_learn_alone(generator, histories, captions):
    invert = InvertedTokens(tokens=2, steps=3, draws=2)
    together = invert.learn(generator, histories, captions, [0, 1, 2])
    assert together.shape == (3, 2, generator.text_encoder.width)
    others = [histories[0], histories[2], histories[1]]
    assert torch.allclose(invert.learn(generator, others, captions, [0, 2, 1])[0], together[0], atol=1e-5)
    assert not torch.allclose(together[0], together[1])


@pytest.mark.ci
@pytest.mark.slow
def test_loss_on_the_history_falls(generator, histories, captions):
    invert = InvertedTokens(tokens=2, steps=60, draws=8, learning_rate=0.1)
    user = histories[0]

    def loss(tokens):
        draws = torch.Generator().manual_seed(9)
        noise = torch.randn(64, *generator.latent_shape, generator=draws)
        rows = torch.arange(64) % 3
        soft = Block(tokens.expand(64, -1, -1), torch.ones(64, 2, dtype=torch.bool))
        condition = join(captions[user.captions[rows]], soft)
        return generator.loss(user.latents[rows], condition, {"noise": noise, "times": torch.arange(64) * 15}).mean()

    learned = invert.learn(generator, [user], captions, [0])
    with torch.no_grad():
        assert loss(learned) < loss(invert.start(generator.text_encoder, 1))
    assert all(parameter.grad is None for parameter in generator.parameters())


def test_tokens_start_as_the_word_and_not_as_what_surrounds_it(text_encoder):
    bert = text_encoder.encode(["dog face"]).tokens[0]
    torch.testing.assert_close(start_of(text_encoder, "dog face"), bert[1:-1].mean(0))


def test_a_word_without_tokens_is_refused(text_encoder):
    with pytest.raises(PmgError, match=r"preference\.inversion\.word is '', which has no tokens"):
        start_of(text_encoder, "")


def test_kept_tokens_are_those_of_the_same_captions_and_models(shop, generator, tmp_path):
    inversion, cache = InvertedTokens(tokens=1, steps=1, draws=1), Cache(tmp_path)
    examples = shop.examples("test", users=2, targets=1)

    def learn(scene, identity="tiny", seed=0):
        return invert_histories(
            inversion, generator, examples, shop.images, [scene], cache, identity=identity, seed=seed
        )

    first = learn("sticker")
    assert torch.equal(first, learn("sticker"))
    assert not torch.equal(first, learn("film poster"))
    assert not torch.equal(first, learn("sticker", "another", seed=1))


def test_a_user_without_a_liked_picture_is_named(shop, generator, tmp_path):
    first, second = shop.examples("test", users=2, targets=1)
    empty = replace(second, history=tuple(replace(one, liked=False) for one in second.history))
    inversion = InvertedTokens(tokens=1, steps=1, draws=1)
    with pytest.raises(
        PmgError, match=f"user {second.user} liked nothing that has a picture, which textual inversion"
    ):
        invert_histories(
            inversion, generator, [first, empty], shop.images, [], Cache(tmp_path), identity="tiny", seed=0
        )
