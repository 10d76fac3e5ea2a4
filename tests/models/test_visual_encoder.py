"""The encoder that reads pictures: what reaches the soft tokens, and what doesn't."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import layer_norm

from pmg.domain import Example, Interaction, Item, PmgError
from pmg.models.preference.preference_encoder import build_preference_encoder
from pmg.models.preference.visual_encoder import (
    NO_PICTURE,
    SeenHistories,
    VisualPreferenceEncoder,
    build_visual_encoder,
)
from pmg.models.tiny_models import tiny_language_model, tiny_scorer
from pmg.training.visual_inputs import ScorerImageEncoder, VisualHistories

TEXTS = ["red apple: flat", "dog: thick outline and dark ground", "ghost"]
REAL = torch.randn(200, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def language_model():
    return tiny_language_model()


@pytest.fixture
def histories(language_model):
    draws = torch.Generator().manual_seed(0)
    present = torch.tensor([[True, True, True], [True, True, False], [True, False, False]])
    liked = torch.tensor([[True, False, True], [True, True, False], [True, False, False]])
    return SeenHistories(language_model.prefill(TEXTS), torch.randn(3, 3, 10, generator=draws), present, liked)


@pytest.fixture
def build(language_model, histories):
    def build(sees="both"):
        torch.manual_seed(0)
        return build_visual_encoder(language_model, REAL, histories, "favourite style", sees=sees)

    return build


def test_without_pictures_it_is_the_preference_encoder(language_model, histories, build):
    torch.manual_seed(0)
    plain = build_preference_encoder(language_model, REAL, histories.context, "favourite style")
    seeing = build("text")
    seeing.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(seeing(language_model, histories), plain(language_model, histories.context))


def test_pictures_text_and_likes_reach_the_tokens(language_model, histories, build):
    others = language_model.prefill([f"another {text}" for text in TEXTS])
    changed = {
        "pictures": replace(histories, vectors=histories.vectors.flip(0)),
        "likes": replace(histories, liked=~histories.liked),
        "text": replace(histories, context=others),
    }
    reached = {"text": {"text"}, "pictures": {"pictures", "likes"}, "both": set(changed)}
    for sees, expected in reached.items():
        encoder = build(sees)
        before = encoder.states(language_model, histories)
        found = {
            name
            for name, other in changed.items()
            if not torch.allclose(encoder.states(language_model, other), before, atol=1e-5)
        }
        assert found == expected, sees


def test_a_missing_picture_and_other_users_have_no_influence(language_model, histories, build):
    encoder = build("both")
    together = encoder(language_model, histories)
    noise = histories.vectors.where(histories.present[..., None], torch.tensor(99.0))
    assert torch.equal(encoder(language_model, replace(histories, vectors=noise)), together)
    alone = SeenHistories(
        histories.context.select([1]), histories.vectors[1:2, :2], histories.present[1:2, :2], histories.liked[1:2, :2]
    )
    assert torch.allclose(encoder(language_model, alone), together[1:2], atol=1e-4)


def test_visual_tokens_have_the_scale_of_the_language_models_embeddings(language_model, histories, build):
    encoder = build()
    torch.testing.assert_close(encoder.embedding_std, language_model.embeddings.std())
    before = encoder.visual_tokens(histories)
    encoder.embedding_std.mul_(2)
    torch.testing.assert_close(encoder.visual_tokens(histories), 2 * before)


@pytest.fixture
def copying(language_model, histories):
    """Returns an encoder whose soft tokens start from pictures of four tokens of 12 numbers."""
    torch.manual_seed(0)
    pictures = replace(histories, vectors=torch.randn(3, 3, 48))
    built = build_visual_encoder(language_model, REAL, pictures, "favourite style", copies=True)
    return built, pictures


def test_soft_tokens_start_as_the_mean_of_liked_pictures(language_model, copying):
    encoder, pictures = copying
    found = encoder(language_model, pictures)
    tokens, base = pictures.vectors.unflatten(2, (4, 12)), encoder.picture_mean.base
    little = math.exp(NO_PICTURE)
    wanted = (tokens[0, 0] + tokens[0, 2] + little * base) / (2 + little)  # its second picture is disliked
    torch.testing.assert_close(found[0], layer_norm(wanted, (12,)), atol=1e-5, rtol=1e-4)


def test_users_without_liked_pictures_get_the_base(language_model, copying):
    encoder, pictures = copying
    found = encoder(language_model, replace(pictures, liked=torch.zeros_like(pictures.liked)))
    torch.testing.assert_close(
        found, layer_norm(encoder.picture_mean.base, (12,)).expand(3, -1, -1), atol=1e-5, rtol=1e-4
    )


def test_weights_of_pictures_and_what_is_added_are_trained(language_model, copying):
    encoder, pictures = copying
    optimizer = torch.optim.SGD(encoder.parameters(), 0.1)
    for _ in range(3):  # the map starts from zeros, and the query too
        optimizer.zero_grad()
        (encoder(language_model, pictures) - 1).pow(2).mean().backward()
        optimizer.step()
    trained = {name for name, weight in encoder.named_parameters() if weight.grad is not None and weight.grad.any()}
    copied = {f"picture_mean.{name}" for name in ("query.weight", "key.weight", "base")}
    assert copied | {"map.weight", "multimodal_tokens"} <= trained


def test_an_image_encoder_that_gives_no_soft_tokens_is_refused(language_model, histories):
    with pytest.raises(PmgError, match=r"an image encoder whose vectors are 4 soft tokens, 48 numbers; .* gives 10"):
        build_visual_encoder(language_model, REAL, histories, "favourite style", copies=True)


@pytest.mark.parametrize("sees", ["text", "pictures", "both"])
def test_all_that_is_trained_gets_a_gradient(sees, language_model, histories, build):
    """Several processes wait for the gradients of all trained weights."""
    encoder = build(sees).train()
    encoder(language_model, histories).pow(2).sum().backward()
    assert all(part.grad is not None for part in encoder.parameters() if part.requires_grad)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_pictures_leave_vectors_as_they_are(count, language_model, histories):
    few = SeenHistories(
        histories.context, torch.ones(3, count, 48), torch.eye(3, dtype=torch.bool)[:, :count],
        torch.ones(3, count, dtype=torch.bool),
    )  # fmt: skip
    encoder = build_visual_encoder(language_model, REAL, few, "favourite style", copies=True)
    assert encoder(language_model, few).isfinite().all()
    assert torch.equal(encoder.feature_mean, torch.zeros(48))
    assert torch.equal(encoder.feature_std, torch.ones(48))


def test_all_that_sees_is_trained_and_saved(language_model, histories, build, tmp_path):
    encoder = build("both").train()
    encoder(language_model, histories).pow(2).sum().backward()
    assert all(part.grad is not None and part.grad.abs().sum() > 0 for part in encoder.parameters())
    encoder.eval().save_pretrained(tmp_path)
    again = VisualPreferenceEncoder.from_pretrained(tmp_path).eval()
    assert torch.allclose(again(language_model, histories), encoder(language_model, histories), atol=1e-6)


class Pictures:
    """Pictures of items by id, all but one."""

    size = 64

    def has(self, item):
        return item.id != "lost"

    def rows(self, items):
        return torch.tensor([int(item.id) for item in items])

    def pixels(self, rows):
        self.read += len(rows)
        return torch.stack([torch.full((3, 64, 64), float(row) / 10) for row in rows])

    read = 0


class Extracted:
    """Profiles with their contexts."""

    def __init__(self, context, profiles):
        self.context, self.profiles = context, profiles


def example(user, ids, disliked=()):
    history = tuple(Interaction(Item(name, name, name), "liked", liked=name not in disliked) for name in ids)
    return Example(user, user, history, Item("9", "cat", "cat"), ())


def test_each_picture_is_seen_once_and_the_latest_are_kept(language_model):
    images, image_encoder = Pictures(), ScorerImageEncoder(tiny_scorer())
    examples = [example("a", ["1", "2", "lost", "3"], disliked=["2"]), example("b", ["3", "1"])]
    extracted = Extracted(language_model.prefill(TEXTS[:2]), ["a", "b"])
    users = VisualHistories(image_encoder, pictures=2)(extracted, examples, images)
    assert images.read == 3
    seen = users.select([1, 0])
    assert seen.present.tolist() == [[True, True], [True, True]]
    assert seen.liked.tolist() == [[True, True], [False, True]]
    assert torch.allclose(seen.vectors[1, 1], seen.vectors[0, 0])
    assert torch.allclose(seen.vectors[0, 0], image_encoder(images.pixels(torch.tensor([3])))[0], atol=1e-5)
    with pytest.raises(PmgError, match="no item of the histories has a picture"):
        VisualHistories(image_encoder)(extracted, [example("a", ["lost"]), example("b", [])], images)
