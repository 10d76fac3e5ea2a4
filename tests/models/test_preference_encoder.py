"""The preference encoder: saved and loaded, its scale, its statistics, and that it learns."""

from __future__ import annotations

import copy

import pytest
import torch

from pmg.domain import PmgError
from pmg.models.preference.preference_encoder import PreferenceEncoder, build_preference_encoder
from pmg.models.preference.prefix_placement import PLACEMENTS
from pmg.models.tiny_models import tiny_language_model

TEXTS = [f"{title}: {look}" for title in ("red apple", "dog", "ghost") for look in ("flat", "thick outline")]


@pytest.fixture(scope="module")
def language_model():
    return tiny_language_model()


@pytest.fixture
def encoder(language_model):
    torch.manual_seed(0)
    real = torch.randn(200, 12) * torch.linspace(0.1, 2, 12) + 3
    return build_preference_encoder(language_model, real, language_model.prefill(TEXTS), "favourite style")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"soft_tokens": 2, "prefix_length": 3, "prefix_hidden": 8},
        {"prefix_length": 0},
        {"placement": "front", "prefix_hidden": 8},
    ],
)
def test_saved_and_loaded_encoder_is_bit_equal(language_model, tmp_path, options):
    context = language_model.prefill(TEXTS)
    encoder = build_preference_encoder(language_model, torch.randn(50, 12), context, "style", **options)
    encoder.save_pretrained(tmp_path)
    loaded = PreferenceEncoder.from_pretrained(tmp_path)
    assert {**loaded.config, "_name_or_path": None} == {**encoder.config, "_name_or_path": None}
    assert not loaded.training
    for name, weight in encoder.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    # a copy: mapped weights may lie differently in memory, which changes the order of sums in a matrix product
    assert torch.equal(copy.deepcopy(loaded)(language_model, context), encoder(language_model, context))


def test_placement_decides_what_is_read(language_model):
    context = language_model.prefill(TEXTS)
    encoders = {}
    for placement in PLACEMENTS:
        torch.manual_seed(0)
        encoders[placement] = build_preference_encoder(
            language_model, torch.randn(50, 12), context, "style", placement=placement
        )
    late, front = (encoder.states(language_model, context) for encoder in encoders.values())
    assert all(torch.equal(a, b) for a, b in zip(*(e.parameters() for e in encoders.values()), strict=True))
    assert not torch.allclose(late, front, atol=1e-5)


def test_unknown_placement_is_refused(language_model):
    with pytest.raises(PmgError, match=r"no placement 'middle'\. Use one of late, front"):
        build_preference_encoder(
            language_model, torch.randn(50, 12), language_model.prefill(TEXTS), "style", placement="middle"
        )


def test_soft_tokens_start_on_the_scale_of_real_token_embeddings(language_model, encoder):
    tokens = encoder(language_model, language_model.prefill(TEXTS)).detach()
    assert tokens.shape == (len(TEXTS), 4, 12)
    spread = (tokens - encoder.output_mean) / encoder.output_std
    assert 0.5 < spread.std() < 2


def test_users_differ_as_much_as_tokens_do(language_model, encoder):
    tokens = encoder(language_model, language_model.prefill(TEXTS)).detach()
    assert tokens.var(0).mean() > 0.3 * tokens.flatten(0, 1).var(0).mean()


def test_only_the_soft_branch_is_trained_and_saved(language_model, encoder):
    encoder.train()
    encoder(language_model, language_model.prefill(TEXTS)).pow(2).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in encoder.parameters())
    assert all(parameter.grad is None for parameter in language_model.parameters())
    assert {name.split(".")[0] for name in encoder.state_dict()} == {
        "multimodal_tokens", "prefix", "map", "standardize", "output_mean", "output_std",
    }  # fmt: skip


def test_batch_equals_each_user_alone(language_model, encoder):
    context = language_model.prefill(TEXTS)
    together = encoder(language_model, context)
    for row in range(len(TEXTS)):
        torch.testing.assert_close(
            together[row], encoder(language_model, context.select([row]))[0], rtol=1e-3, atol=1e-3
        )


def test_multimodal_tokens_start_from_words(language_model, encoder):
    ids = language_model.token_ids("favourite style")
    expected = language_model.embeddings[torch.tensor([ids[i % len(ids)] for i in range(4)])]
    torch.testing.assert_close(encoder.multimodal_tokens.detach(), expected)


def test_encoder_learns_what_histories_say(language_model):
    torch.manual_seed(0)
    context = language_model.prefill(TEXTS)
    goals = torch.tensor([[-1.0], [1.0]]).repeat(3, 1)[:, None].expand(-1, 2, 4)
    encoder = build_preference_encoder(language_model, torch.randn(50, 4), context, "style", soft_tokens=2)
    encoder.train()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=3e-3)
    for _ in range(80):
        loss = (encoder(language_model, context) - goals).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        encoder.fit_statistics(encoder.states(language_model, context))
        learned = encoder.eval()(language_model, context)
    assert (learned - goals).pow(2).mean() < 0.1


def test_training_moves_running_statistics_and_evaluation_does_not(language_model, encoder):
    context = language_model.prefill(TEXTS)
    before = encoder.standardize.running_mean.clone()
    encoder(language_model, context.select([0, 1]))
    assert torch.equal(encoder.standardize.running_mean, before)
    encoder.train()(language_model, context.select([0, 1]))
    assert not torch.equal(encoder.standardize.running_mean, before)
