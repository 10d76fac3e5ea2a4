"""Methods after published systems: the property that defines each, on a shop's pictures and a tiny text encoder."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d, cosine_similarity

from pmg.domain import Item, PmgError, Turn
from pmg.methods.after_drc import StyleAndSemantics, disentangle
from pmg.methods.after_drum import WeightedHistory, list_prompts
from pmg.methods.after_instant_alignment import SeenKeywords, compare
from pmg.methods.after_navigen import WrittenPrompt, split_parts
from pmg.methods.after_pigeon import MaskedHistory, keep_count, quantise
from pmg.methods.after_premier import SharedTokens, mix
from pmg.methods.after_viper import LikedMinusDisliked, embed_words, subtract
from pmg.methods.picture_tokens import PictureTokens, read_picture_tokens
from pmg.models.tiny_models import tiny_language_model, tiny_scorer
from pmg.preferences.keywords import Budget
from pmg.preferences.scenarios import Attribute
from shops import WORDS

WIDTH = 32
TARGET = Item("t", "t", "a lamp")


class PixelEncoder:
    """Two tokens of a picture: its pixels at a low resolution."""

    are_tokens = True

    def __call__(self, pictures):
        return adaptive_avg_pool2d(pictures, 8).flatten(1)[:, : 2 * WIDTH]


@pytest.fixture
def context(shop, text_encoder):
    """Twelve users of the shop, who like wood; the last three dislike what they chose first."""
    examples = [*shop.examples("train", users=12, targets=1)]
    for number in (9, 10, 11):
        first, *rest = examples[number].history
        examples[number] = replace(examples[number], history=(replace(first, liked=False), *rest))
    items = {one.item.id: one.item for example in examples for one in example.history}
    captions = {name: f"material: wood, {item.title.split()[0]}" for name, item in items.items()}
    attributes = {"material": Attribute("material", ("wood", "steel")), "name": Attribute("name", WORDS)}
    scenario, budget = SimpleNamespace(attributes=attributes, max_items=12), Budget(text_encoder.count_tokens, 64)
    extractor = SimpleNamespace(scenario=scenario, budget=budget)
    return SimpleNamespace(
        examples=examples, images=shop.images, captions=captions, extractor=extractor, prepared={},
        generator=SimpleNamespace(text_encoder=text_encoder),
    )  # fmt: skip


def means(context):
    read = read_picture_tokens(context, PixelEncoder(), 12)
    return read.as_tokens(read.user_means(read.vectors, len(context.examples)))


def test_picture_tokens_are_read_once_and_belong_to_their_users(context):
    image_encoder = PixelEncoder()
    read = read_picture_tokens(context, image_encoder, 3)
    assert read_picture_tokens(context, image_encoder, 3) is read
    assert read_picture_tokens(context, PixelEncoder(), 3) is not read
    assert torch.bincount(read.owners).max() == 3
    assert (read_picture_tokens(context, image_encoder, 99).owners == 9).sum() == len(context.examples[9].liked)
    own = context.images.pixels(context.images.rows(context.examples[2].liked[-3:]))
    torch.testing.assert_close(read.vectors[read.owners == 2], PixelEncoder()(own))
    assert read.as_tokens(read.vectors).shape == (len(read.vectors), 2, WIDTH)


def test_image_encoders_without_tokens_and_users_without_pictures_are_refused(context):
    blind = SimpleNamespace(are_tokens=False)
    with pytest.raises(PmgError, match="gives no tokens that this generator was trained with"):
        read_picture_tokens(context, blind, 3)
    context.images = SimpleNamespace(has=lambda item: False)
    with pytest.raises(PmgError, match="no user of this run liked anything that has a picture"):
        read_picture_tokens(context, PixelEncoder(), 3)


def test_a_user_without_pictures_has_the_mean_of_the_others(context):
    context.examples[4] = replace(context.examples[4], history=())
    found = means(context)
    others = torch.cat([found[:4], found[5:]])
    torch.testing.assert_close(found[4], others.mean(0))


# after ViPer


def test_what_is_disliked_is_subtracted_and_lengths_stay():
    liked, disliked = torch.eye(4)[:2] * 3, torch.tensor([0.0, 0.0, 2.0, 0.0])
    assert torch.equal(subtract(liked, disliked, 0.0), liked)
    moved = subtract(liked, disliked, 0.85)
    torch.testing.assert_close(moved.norm(dim=1), torch.tensor([3.0, 3.0]))
    assert (cosine_similarity(moved, disliked[None]) < 0).all()


def test_disliked_words_are_subtracted_and_those_of_the_crowd_where_nothing_is_disliked(context):
    found, plain = (LikedMinusDisliked(degree=degree, words=2)(context) for degree in (0.49, 0.0))
    assert found.shape == (12, 2, WIDTH)
    disliked = ["wood", context.examples[9].history[0].item.title.split()[0]]
    against = embed_words(context.generator.text_encoder, disliked).mean(0)
    torch.testing.assert_close(found[9], subtract(plain[9], against, 0.49))
    torch.testing.assert_close(found[0], subtract(plain[0], plain.flatten(0, 1).mean(0), 0.49))


# after Pigeon


def test_the_mask_keeps_what_fits_the_target(context):
    image_encoder = PixelEncoder()
    every, best = (MaskedHistory(image_encoder, mask=mask, codes=4096, levels=3)(context) for mask in (0.0, 1.0))
    read = read_picture_tokens(context, image_encoder, 12)
    discrete = read.as_tokens(quantise(read.vectors, 4096, 3, 0)[read.owners == 0])
    torch.testing.assert_close(every[0](TARGET), discrete.mean(0))
    for item, own in zip(context.examples[0].liked, discrete, strict=True):
        torch.testing.assert_close(best[0](item), own)
    assert [keep_count(8, mask) for mask in (0.0, 0.25, 0.5, 1.0)] == [8, 6, 4, 1]


def test_residual_codebooks_come_nearer_with_each_level():
    vectors = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    errors = [float((quantise(vectors, 16, levels, 0) - vectors).norm()) for levels in (1, 2, 4)]
    assert errors == sorted(errors, reverse=True)
    assert len(quantise(vectors, 16, 1, 0).unique(dim=0)) <= 16
    assert torch.equal(quantise(vectors, 16, 2, 5), quantise(vectors, 16, 2, 5))


# after DRC


def split_world(users=30, each=8):
    """Pictures that are a user's style plus a motif of their title; returns them with both parts."""
    rng = torch.Generator().manual_seed(0)
    style = torch.randn(users, 5, generator=rng).repeat_interleave(each, 0)
    motif = torch.randn(users * each, 5, generator=rng)
    vectors = torch.cat([3 * style, motif], 1) @ torch.linalg.qr(torch.randn(10, 10, generator=rng))[0]
    owners = torch.arange(users).repeat_interleave(each)
    return PictureTokens(vectors, owners, [TARGET] * len(owners), 5), style, motif


def test_style_is_what_differs_between_users_and_the_parts_add_up():
    read, style, motif = split_world()
    parts = disentangle(read, 30, 5, 0.1)
    torch.testing.assert_close(parts.mean + parts.styles + parts.semantics, read.vectors, atol=1e-4, rtol=1e-4)

    def explained(part, truth):
        fitted = torch.linalg.lstsq(torch.cat([part, torch.ones(len(part), 1)], 1), truth).solution
        rest = truth - torch.cat([part, torch.ones(len(part), 1)], 1) @ fitted
        return 1 - float(rest.var() / truth.var())

    assert explained(parts.styles, style) > 0.9
    assert explained(parts.styles, motif) < 0.2
    assert explained(parts.semantics, motif) > 0.8


@pytest.mark.parametrize(("pictures", "users"), [(1, 1), (2, 1), (2, 2), (3, 1)])
def test_few_pictures_are_split_too(pictures, users):
    vectors = torch.randn(pictures, 10, generator=torch.Generator().manual_seed(0))
    read = PictureTokens(vectors, torch.arange(pictures) % users, [TARGET] * pictures, 5)
    parts = disentangle(read, users, 5, 0.1)
    torch.testing.assert_close(parts.mean + parts.styles + parts.semantics, vectors, atol=1e-3, rtol=1e-3)


def test_semantics_follow_the_target_and_style_the_user(context):
    rows = StyleAndSemantics(PixelEncoder(), directions=4)(context)
    lamp, rug = rows[0](TARGET), rows[0](Item("x", "x", "a rug"))
    assert lamp.shape == (2, WIDTH)
    assert not torch.allclose(lamp, rug)
    other = rows[1](TARGET) - rows[1](Item("x", "x", "a rug"))
    torch.testing.assert_close(lamp - rug, other, atol=1e-4, rtol=1e-3)  # the same for all users
    stiff = StyleAndSemantics(PixelEncoder(), directions=4, ridge=1e9)(context)[0]
    torch.testing.assert_close(stiff(TARGET), stiff(Item("x", "x", "a rug")))  # titles explain nothing


# after DrUM


def test_small_temperatures_keep_the_most_typical_prompt(text_encoder):
    prompts = ["flat red", "flat red", "flat red", "a long word of thanks"]
    equal = WeightedHistory(temperature=1e4, tokens=3).combine(text_encoder, prompts)
    typical = WeightedHistory(temperature=1e-4, tokens=3).combine(text_encoder, prompts)
    alone = WeightedHistory(tokens=3).combine(text_encoder, ["flat red"])
    torch.testing.assert_close(typical, alone, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(equal, alone, atol=1e-4)


def test_prompts_are_captions_and_own_messages(context, text_encoder):
    example = replace(context.examples[0], conversation=(Turn("me", "I like blue."), Turn("bot", "Sure.")))
    prompts = list_prompts(example, context.captions, 2, text_encoder)
    assert {"I like blue.", context.captions[example.liked[-1].id]} <= {*prompts}
    assert "Sure." not in prompts
    assert WeightedHistory(tokens=5)(context).shape == (12, 5, WIDTH)
    nobody = replace(example, history=(), conversation=())
    assert WeightedHistory(tokens=5).combine(text_encoder, list_prompts(nobody, {}, 2, text_encoder)).isfinite().all()


# after Premier and learn-user-pref


def test_users_are_convex_mixtures_and_those_of_the_shared_tokens_are_found():
    shared = torch.eye(3, 6) * 4
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.25, 0.5, 0.25], [0.0, 0.3, 0.7]])
    torch.testing.assert_close(mix(weights @ shared, shared), weights, atol=1e-3, rtol=1e-2)
    far = mix(torch.full((1, 6), -9.0), shared)
    assert (far >= 0).all()
    torch.testing.assert_close(far.sum(1), torch.ones(1))


def test_as_many_shared_tokens_as_users_reproduce_each_user(context):
    torch.testing.assert_close(SharedTokens(PixelEncoder(), shared=12)(context), means(context), atol=0.02, rtol=0.05)
    one = SharedTokens(PixelEncoder(), shared=1)(context)
    torch.testing.assert_close(one[0], means(context).mean(0), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(one[0], one[5])


# after NaviGen and Tailored Visions


def test_a_written_prompt_is_cut_into_parts():
    assert split_parts(' "dark, pale blue ground; dark" so.\nMore') == ("dark", "pale blue ground", 'dark" so')
    assert split_parts("\n\n  flat shapes. They like them.") == ("flat shapes",)
    assert split_parts(" \n") == ()


def test_the_language_model_writes_behind_each_history(context):
    model = tiny_language_model()
    context.extractor.language_model = model
    prefilled = model.prefill([f"history {number}" for number in range(12)])
    context.extracted = SimpleNamespace(rows=lambda profiles: list(range(len(profiles))), context=prefilled)
    source = WrittenPrompt("\nTheir style:", max_new_tokens=4)
    assert source.requires.contexts
    assert len(source(context)) == 12
    model.generate = lambda *_: ["a line without an end, " + "that is the same " * 20] * 12
    for words in source(context):  # a part that is too long by itself is cut
        assert words.words[0] == "a line without an end"
        assert context.extractor.budget.count_tokens(str(words)) <= context.extractor.budget.limit


# after Instant Preference Alignment


def test_the_option_that_pictures_show_more_than_everybodys_is_named():
    options = torch.eye(3)
    users = torch.tensor([[0.9, 0.3, 0.1], [0.9, 0.1, 0.3]])
    assert compare(users, options, 0.0).argmax(1).tolist() == [0, 0]
    assert compare(users, options, 1.0).argmax(1).tolist() == [1, 2]
    assert math.isclose(float(compare(users, options, 0.5)[0, 0]), 0.45, abs_tol=1e-6)


def test_each_attribute_with_options_gets_a_word(context):
    scorer = tiny_scorer()
    found, alike = (SeenKeywords(scorer, prior=prior)(context) for prior in (1.0, 0.0))
    assert {len(each.words) for each in found} == {2}
    assert len({each.words for each in found}) > len({each.words for each in alike})
    context.examples[3] = replace(context.examples[3], history=())
    assert SeenKeywords(scorer)(context)[3].words == ()
