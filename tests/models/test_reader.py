"""States of single layers, and the encoder that reads them: what reaches the soft tokens, and what doesn't."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pmg.cache import Cache
from pmg.domain import PmgError
from pmg.models.preference.reader import PreferenceReader, Readings, build_reader
from pmg.models.tiny_models import tiny_language_model
from pmg.preferences.contexts import WrittenHistories
from pmg.training.reader_inputs import UsersReadings, embed_titles
from pmg.training.visual_inputs import SeenPictures

TEXTS = ["red apple: flat", "dog: thick outline and dark ground", "ghost"]
REAL = torch.randn(200, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_states_are_those_of_the_whole_model(language_model, layer):
    states = language_model.layer_states(TEXTS, [layer])
    for text, found in zip(TEXTS, states, strict=True):
        ids = language_model.tokenize(text)[None]
        decoder = language_model.model.get_decoder()
        language_model.set_attention("eager")
        kept = []  # the last one is behind the final norm in `hidden_states`
        hook = decoder.layers[layer - 1].register_forward_hook(lambda _, __, out, kept=kept: kept.append(out))
        hidden = decoder(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
        hook.remove()
        expected = hidden[0] if layer == 0 else kept[0][0] if isinstance(kept[0], tuple) else kept[0]
        torch.testing.assert_close(found, expected[0], rtol=1e-4, atol=1e-5)


def test_layers_above_are_not_run(language_model):
    count = []
    hooks = [layer.register_forward_hook(lambda *_: count.append(1)) for layer in language_model.model.model.layers]
    language_model.layer_states(TEXTS[:1], [2])
    assert len(count) == 2
    for hook in hooks:
        hook.remove()
    with pytest.raises(PmgError, match=r"inputs\.layers=\[0, 9\]: name at least one of the language model's 3 layers"):
        language_model.layer_states(TEXTS, [0, 9])
    with pytest.raises(PmgError, match=r"inputs\.layers=\[\]: name at least one"):
        language_model.layer_states(TEXTS, [])


def test_states_of_several_layers_are_joined_in_their_order(language_model):
    both, single = (
        language_model.layer_states(TEXTS, [3, 0]),
        [language_model.layer_states(TEXTS, [k]) for k in (3, 0)],
    )
    for joined, *parts in zip(both, *single, strict=True):
        assert torch.equal(joined, torch.cat(parts, 1))


def test_states_are_kept(tmp_path):
    written = WrittenHistories(TEXTS, tiny_language_model(), Cache(tmp_path), "tiny")
    first = written.states([1])
    computed = written.language_model.tokens_computed
    again = WrittenHistories(TEXTS, written.language_model, Cache(tmp_path), "tiny").states([1])
    assert written.language_model.tokens_computed == computed
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert [len(one) for one in first] == [len(written.language_model.tokenize(text)) for text in TEXTS]


@pytest.fixture(scope="module")
def users():
    language_model, draws = tiny_language_model(), torch.Generator().manual_seed(0)
    return UsersReadings(
        language_model.layer_states(TEXTS, [0, 1]),
        SeenPictures(
            torch.randn(3, 48, generator=draws),
            [torch.tensor([0, 1, 2]), torch.tensor([1]), torch.tensor([], dtype=torch.long)],
            [torch.tensor([True, False, True]), torch.tensor([True]), torch.tensor([], dtype=torch.bool)],
        ),
        embed_titles(language_model, ["apple", "dog", "ghost"]),
        [torch.randn(count, 7, generator=draws) for count in (2, 0, 1)],
    )  # fmt: skip


@pytest.fixture
def reader(users):
    torch.manual_seed(0)
    return build_reader(tiny_language_model(), REAL, users.select([0, 1, 2]), soft_tokens=4, width=32, layers=2)


def test_a_user_s_tokens_don_t_depend_on_who_else_is_in_the_batch(users, reader):
    together = reader(None, users.select([0, 1, 2]))
    assert together.shape == (3, 4, 12)
    for user in range(3):
        torch.testing.assert_close(reader(None, users.select([user]))[0], together[user], rtol=1e-4, atol=1e-5)


def test_words_their_order_pictures_titles_and_likes_reach_the_tokens(users, reader):
    own = users.select([0])
    changed = {
        "states": own.states + 1,
        "order": own.states.flip(1),
        "vectors": own.vectors.flip(1),
        "titles": own.titles.flip(1),
        "liked": ~own.liked,
        "sentences": own.sentences.flip(1),
        "said": ~own.said,
    }
    before = reader(None, own)
    for name, value in changed.items():
        other = reader(None, replace(own, **{"states" if name == "order" else name: value}))
        assert (other - before).abs().max() > 1e-4, name
    hidden = replace(own, vectors=own.vectors.clone(), present=own.present.clone())
    hidden.present[:, 2] = False
    same = replace(hidden, vectors=torch.cat([hidden.vectors[:, :2], hidden.vectors[:, 2:] + 5], 1))
    torch.testing.assert_close(reader(None, hidden), reader(None, same))


def test_positions_count_from_the_end_and_are_limited(users, monkeypatch):
    monkeypatch.setattr("pmg.models.preference.reader.LONGEST", 2)
    small = PreferenceReader(
        llm_width=users.titles.shape[1],
        layers_read=2,
        feature_width=48,
        text_width=12,
        width=32,
    )
    own = replace(users.select([1]), sentences=None, said=None)
    early = replace(own, states=own.states[:, torch.tensor([1, 0, *range(2, own.states.shape[1])])])
    late = replace(own, states=own.states[:, torch.tensor([*range(own.states.shape[1] - 2), -1, -2])])
    before = small.eval()(None, own)
    torch.testing.assert_close(small(None, early), before, rtol=1e-4, atol=1e-5)  # both have the last position
    assert (small(None, late) - before).abs().max() > 1e-4


def test_it_starts_on_the_scale_of_the_pictures_tokens_and_is_loaded_as_it_was(users, reader, tmp_path):
    sample = users.select([0, 1, 2])
    tokens = sample.vectors[sample.present].view(-1, 4, 12)
    torch.testing.assert_close(reader.output_mean, tokens.mean(0))
    reader.save_pretrained(tmp_path)
    loaded = PreferenceReader.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(None, sample), reader(None, sample))
    assert loaded.config.sentence_width == 7
    plain = build_reader(tiny_language_model(), REAL, sample, soft_tokens=3, width=32, layers=1)
    torch.testing.assert_close(plain.output_mean, REAL.mean(0).expand(3, -1))


def test_a_batch_without_a_picture_has_finite_tokens(users, reader):
    found: Readings = users.select([2])
    assert found.present.sum() == 0
    assert reader(None, found).isfinite().all()


def test_without_training_a_user_s_pictures_are_half_copied(users, reader):
    own = users.select([0, 1])
    torch.nn.init.zeros_(reader.map.weight)
    liked = own.present & own.liked
    mean = torch.stack([vectors[one].mean(0) for vectors, one in zip(own.vectors, liked, strict=True)]).view(2, 4, 12)
    torch.testing.assert_close(reader(None, own), (reader.output_mean + mean) / 2, rtol=0.1, atol=0.1)


def test_scales_of_too_few_users_leave_numbers_finite(users):
    reader = build_reader(tiny_language_model(), REAL, users.select([2]), width=32, layers=1)
    assert reader(None, users.select([0, 1])).isfinite().all()


def test_users_without_pictures_have_finite_gradients(users, reader):
    reader(None, users.select([0, 2])).square().sum().backward()
    assert all(part.grad.isfinite().all() for part in reader.parameters() if part.grad is not None)
