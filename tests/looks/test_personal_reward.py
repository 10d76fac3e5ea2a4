"""A reward for one user: what it compares, and how it trains."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.nn.functional import normalize

from looks import deep_codec
from pmg.domain import PmgError
from pmg.looks.models.personal_reward import PersonalReward, PersonalRewardConfig
from pmg.looks.stages.pretraining import save_half
from pmg.looks.stages.reward import (
    FINISHES,
    LONGEST,
    LookRewardStage,
    LookRewardTraining,
    find_sharpness,
    pair_accuracy,
)
from pmg.models.tiny_models import tiny_scorer
from pmg.training.optim import adamw, constant


@pytest.fixture
def reward():
    torch.manual_seed(0)
    return PersonalReward(PersonalRewardConfig(features=8, width=6)).eval()


def vectors(*shape, seed=0):
    return normalize(torch.randn(*shape, 6, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_a_picture_that_was_liked_gets_the_highest_logit(reward):
    history, known = vectors(2, 3), torch.ones(2, 3, dtype=torch.bool)
    single = reward(history[:, :1], history[:, :1], known[:, :1], known[:, :1])
    torch.testing.assert_close(single, (reward.scale.exp() - reward.threshold).expand(2, 1))  # a cosine of 1
    others = reward(vectors(2, 5, seed=1), history[:, :1], known[:, :1], known[:, :1])
    assert (others < single).all()


def test_order_and_absent_pictures_make_no_difference(reward):
    images, history = vectors(2, 4, seed=1), vectors(2, 5)
    liked = torch.tensor([[True, False, True, True, True]] * 2)
    known = torch.tensor([[True, True, True, False, False]] * 2)
    found = reward(images, history, liked, known)
    order = [2, 0, 1]
    same = reward(images, history[:, order], liked[:, order], known[:, order])
    torch.testing.assert_close(found, same)


def test_a_user_of_two_tastes_has_both_and_dislikes_count_against(reward):
    one, two, far = torch.eye(6)[:3]
    known = torch.ones(1, 2, dtype=torch.bool)
    images = torch.stack([one, two, far, normalize(one + two, dim=0)])[None]
    logits = reward(images, torch.stack([one, two])[None], known, known)[0]
    torch.testing.assert_close(logits[0], logits[1])
    assert logits[0] > logits[3] > logits[2]  # either of the two, rather than their mean
    disliked = reward(images, torch.stack([one, two])[None], torch.tensor([[True, False]]), known)[0]
    assert disliked[0] > disliked[2] > disliked[1]


@pytest.fixture
def stage(tmp_path):
    folder = tmp_path / "generator"
    codec = deep_codec(torch.rand(2, 3, 64, 64) * 2 - 1)
    save_half(codec.autoencoder, str(folder / "vae"))
    codec.save_statistics(folder / "vae")
    training = partial(LookRewardTraining, optimizer=adamw(1e-2), lr_scheduler=constant)
    return partial(
        LookRewardStage, str(tmp_path / "reward"), str(folder), tiny_scorer(), width=6, spread=0.02, noise=0.1,
        restored=0.0, training=training,
    )  # fmt: skip


@pytest.mark.ci
@pytest.mark.slow
def test_every_artist_draws_in_every_finish_and_learning_helps(stage, few_looks):
    module, batches = (built := stage(batch_size=2 * FINISHES)).build(few_looks, seed=0)
    batch = batches.train.batch(0)
    assert batch["images"].shape[:2] == (2 * FINISHES, LONGEST + 1)
    assert batch["hard"].sum(1).tolist() == [FINISHES - 1 + 1] * 2 * FINISHES  # other finishes; the other artist
    assert not batch["hard"].diagonal().any()
    assert (batch["liked"] & batch["known"]).any(1).all()
    module.log_dict = lambda *values, **options: None
    optimizer = torch.optim.Adam(module.reward.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        loss = module.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    quality = built.save_and_evaluate((module, batches), few_looks)
    assert 0 <= quality["pair_accuracy"] <= 1
    assert PersonalReward.from_folder(built.folder).config.features == tiny_scorer().encoder.width


def test_pairs_are_counted_where_rivals_are_hard():
    logits = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 0.0], [5.0, 5.0, 1.0]])
    hard = torch.tensor([[False, True, False], [False, False, True], [False, False, False]])
    assert float(pair_accuracy(logits, hard)) == 0.5


def test_logits_are_sharpened_until_probabilities_are_right(reward):
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, generator=rng)
    preferred = torch.rand(20_000, generator=rng) < torch.sigmoid(2 * logits)  # they are half of what they should be
    assert find_sharpness(torch.where(preferred, logits, -logits)) == pytest.approx(2.0, abs=0.15)
    images, history, known = vectors(1, 3, seed=1), vectors(1, 2), torch.ones(1, 2, dtype=torch.bool)
    before = reward(images, history, known, known)
    reward.sharpen(1.5)
    torch.testing.assert_close(reward(images, history, known, known), 1.5 * before)


def test_data_without_looks_and_too_many_artists_are_refused(stage, few_looks):
    with pytest.raises(PmgError, match=r"Set data=looks"):
        stage(batch_size=8).build(object(), seed=0)
    artists = len(few_looks.rows_by_artist("train"))
    with pytest.raises(
        PmgError, match=rf"the data has {artists} artists: set stage\.batch_size={4 * artists} or less"
    ):
        stage(batch_size=4 * (artists + 1)).build(few_looks, seed=0)
    with pytest.raises(PmgError, match=r"stage\.batch_size must be a multiple of 4"):
        stage(batch_size=6)
