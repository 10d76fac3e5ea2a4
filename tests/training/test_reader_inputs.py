"""Readings with sentences: whose vectors they are, in which order, and users who wrote nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from pmg.cache import Cache
from pmg.data.chats import USER
from pmg.domain import Item, PmgError, Turn
from pmg.models.language.context import Context
from pmg.models.preference.reader import build_reader
from pmg.models.tiny_models import tiny_language_model
from pmg.preferences.contexts import WrittenHistories, no_pictures
from pmg.preferences.extraction import ExtractedPreferences
from pmg.training.reader_inputs import ReadHistories


class Colours:
    """The mean colour of each half of a picture, `(B, 6)`."""

    are_tokens = False

    def __call__(self, pictures):
        return torch.cat([half.mean((2, 3)) for half in pictures.chunk(2, dim=2)], 1)


def read(shop, text_encoder, *conversations):
    examples = [
        replace(example, conversation=tuple(Turn(speaker, text) for speaker, text in said))
        for example, said in zip(shop.examples("train", len(conversations), 1), conversations, strict=True)
    ]
    extracted = ExtractedPreferences([example.profile for example in examples], None, {}, {}, None)
    return examples, ReadHistories(Colours(), (), 3, text_encoder)(extracted, examples, shop.images)


def test_each_sentence_that_a_user_wrote_has_its_vector_in_their_order(shop, text_encoder):
    first = [(USER, "Dark ground. No outline!"), ("assistant", "Sure."), (USER, "Dots")]
    examples, readings = read(shop, text_encoder, first, [], [(USER, "Dots")])
    assert [len(own) for own in readings.sentences] == [3, 0, 1]
    encoded = text_encoder.encode(["Dark ground.", "No outline!", "Dots"], padded=False).pooled.float()
    torch.testing.assert_close(readings.sentences[0], normalize(encoded, dim=-1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(readings.sentences[0][2], readings.sentences[2][0])
    title = examples[1].history[-1].item.title
    last = readings.select([1])
    encoded = normalize(text_encoder.encode([title], padded=False).pooled.float(), dim=-1)
    torch.testing.assert_close(last.titles[0, -1:], encoded, rtol=1e-4, atol=1e-5)
    assert last.titles.shape[1] == min(3, len(examples[1].history))


def test_a_reader_reads_them_also_where_nobody_wrote_anything(shop, text_encoder):
    _, readings = read(shop, text_encoder, [(USER, "Dots. Stripes.")], [])
    model = build_reader(tiny_language_model(), torch.randn(50, 12), readings.select([0, 1]), width=32, layers=1)
    together = model(None, readings.select([0, 1]))
    torch.testing.assert_close(model(None, readings.select([1]))[0], together[1], rtol=1e-4, atol=1e-5)


def test_blank_readings_have_the_width_of_a_sentence_vector():
    context = Context((), (), (torch.zeros(5, dtype=torch.long),) * 2, ())
    options = {"image_encoder": {"_target_": "torch.nn.Identity"}, "pictures": 2, "llm_width": 8, "layers": [0, 1]}
    alone = ReadHistories.blank(context, 48, 32, {**options, "layers": [], "text_encoder": {"_target_": "x"}})
    assert (alone.select([0, 1]).states.shape, alone.select([0, 1]).sentences.shape) == ((2, 0, 32), (2, 5, 32))
    assert (alone.titles.shape, alone.seen.vectors.shape) == ((1, 32), (1, 2 * 32))
    both = ReadHistories.blank(context, 48, 32, {**options, "text_encoder": {"_target_": "x"}}).select([0, 1])
    assert (both.states.shape, both.sentences.shape) == ((2, 5, 16), (2, 5, 32))
    assert ReadHistories.blank(context, 48, 32, options).select([0, 1]).sentences is None


def test_a_reader_reads_sentences_beside_the_language_model_s_states(shop, text_encoder, tmp_path):
    said = [("me", "Dots. Stripes."), ("me", "Dots")]
    examples, sentences = read(shop, text_encoder, said, [])
    language_model = tiny_language_model()
    texts = ["likes dots", "likes nothing"]
    written = WrittenHistories(texts, language_model, Cache(tmp_path), "tiny", no_pictures)
    extracted = ExtractedPreferences([example.profile for example in examples], None, {}, {}, written)
    inputs = ReadHistories(Colours(), (0, 1), 3, text_encoder)(extracted, examples, shop.images)
    readings = inputs.select([0, 1])
    assert readings.said.sum(1).tolist() == [3, 0]
    torch.testing.assert_close(readings.sentences, sentences.select([0, 1]).sentences)
    assert torch.equal(readings.states[0, : readings.words[0].sum()], language_model.layer_states(texts, [0, 1])[0])
    model = build_reader(language_model, torch.randn(50, 12), readings, width=32, layers=1)
    changed = replace(readings, sentences=readings.sentences.flip(2))
    moved = (model(None, changed) - model(None, readings)).abs().amax((1, 2))
    assert moved[0] > 1e-5 > moved[1]


def test_a_reader_of_no_picture_reads_text_alone(shop, tmp_path):
    examples, language_model = shop.examples("train", 2, 1), tiny_language_model()
    written = WrittenHistories(["likes dots", "likes rain"], language_model, Cache(tmp_path), "tiny", no_pictures)
    extracted = ExtractedPreferences([example.profile for example in examples], None, {}, {}, written)
    readings = ReadHistories(Colours(), (0, 1), 0)(extracted, examples, shop.images).select([0, 1])
    assert readings.present.shape == (2, 0)
    model = build_reader(language_model, torch.randn(50, 12), readings, width=32, layers=1)
    first, second = model(None, readings)
    assert (first - second).abs().max() > 1e-5


def test_where_nobody_wrote_anything_sentences_keep_their_width(shop, text_encoder):
    _, readings = read(shop, text_encoder, [], [])
    assert readings.select([0, 1]).sentences.shape == (2, 0, 32)


def test_a_reader_reads_something(shop, text_encoder, tmp_path):
    (example,) = shop.examples("train", 1, 1)
    written = WrittenHistories(["likes dots"], tiny_language_model(), Cache(tmp_path), "tiny", no_pictures)
    extracted = ExtractedPreferences([example.profile], None, {}, {}, written)
    with pytest.raises(PmgError, match=r"inputs\.layers=\[\]: name at least one"):
        ReadHistories(Colours(), (), 3)(extracted, [example], shop.images)


def test_a_reader_needs_no_pictures(shop, text_encoder):
    """As where somebody clicked things without one, and wrote."""
    (example,) = shop.examples("train", 1, 1)
    clicked = replace(
        example, history=tuple(replace(one, item=Item("x", "x", "a mug")) for one in example.history[:1])
    )
    extracted = ExtractedPreferences([clicked.profile], None, {}, {}, None)
    readings = ReadHistories(Colours(), (), 3, text_encoder)(extracted, [clicked], shop.images)
    assert readings.select([0]).present.shape == (1, 0)
