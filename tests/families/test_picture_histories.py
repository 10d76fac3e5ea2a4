"""Histories of pictures: each is encoded once, likes and dislikes apart, and what doesn't fit is left out."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch

from checkpoints import write_qwen2_vl
from pmg.cache import Cache
from pmg.domain import Example, Interaction, Item, PmgError
from pmg.families.qwen_vl import Qwen2VL
from pmg.models.language.picture_marks import find_pictures
from pmg.models.tiny_models import tiny_language_model
from pmg.preferences.captioning import PictureCaptioner, caption_items
from pmg.preferences.extraction import RESERVED, HistoryWriter, PreferenceExtractor
from pmg.preferences.keyword_decoding import Choose
from pmg.preferences.keywords import Budget
from pmg.preferences.scenarios import Attribute, Scenario

pytestmark = [pytest.mark.slow, pytest.mark.ci]

SCENARIO = Scenario(
    name="test",
    template="Sent:\n{history}\n{instruction}",
    line="{title}: {caption}",
    caption="",
    max_items=12,
    attributes={"shading": Attribute("Their favourite shading is", ("flat", "soft gradients", "glossy"))},
    target_prefix="A sticker of: ",
    target_question="\nIt shows:",
    dislike_template="Sent by somebody else:\n{history}\n{instruction}",
)
ITEMS = [Item(str(number), str(number), f"sticker {number}") for number in range(6)]
IMAGES = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
CAPTIONS = caption_items(PictureCaptioner(), ITEMS, lambda items: IMAGES[[int(item.id) for item in items]])


def example(user, liked, disliked=()):
    history = [Interaction(ITEMS[number]) for number in liked]
    history += [Interaction(ITEMS[number], liked=False) for number in disliked]
    return Example(f"{user}-0", user, tuple(history), ITEMS[0], ())


EXAMPLES = [example("u0", [0, 1]), example("u1", [1, 2], [3]), example("u2", [2, 0], [4, 3])]


class Counted:
    """Gives pixels of items, and remembers which."""

    def __init__(self):
        self.read = []

    def __call__(self, items):
        self.read += [item.id for item in items]
        return IMAGES[[int(item.id) for item in items]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_qwen2_vl(tmp_path_factory.mktemp("model"))


@pytest.fixture
def extractor(folder, tmp_path):
    def build(cache=None, keep=True, tokens=4):
        model = Qwen2VL.load(folder, "float32", tokens, chat=False)
        return PreferenceExtractor(model, SCENARIO, cache or Cache(tmp_path), "qwen", Budget(len, 1000), keep)

    return build


def states(extractor, context):
    return extractor.language_model.multimodal_states(context, torch.ones(2, extractor.language_model.width))


def test_each_picture_is_encoded_once_for_all_users_and_runs(extractor):
    pixels = Counted()
    first = extractor().extract(EXAMPLES, CAPTIONS, [Choose()], [Choose()], pixels=pixels)
    assert sorted(pixels.read) == ["0", "1", "2", "3", "4"]
    again = extractor()
    second = again.extract(EXAMPLES, CAPTIONS, [Choose()], [Choose()], pixels=pixels)
    assert len(pixels.read) == 5
    assert second.liked == first.liked
    assert again.language_model.tokens_computed == 0


def test_another_picture_of_the_same_item_is_encoded(extractor):
    pixels = Counted()
    extractor().extract(EXAMPLES[:1], CAPTIONS, pixels=pixels)
    changed = CAPTIONS | {"1": CAPTIONS["5"]}  # the item has a new picture
    extractor().extract(EXAMPLES[:1], changed, pixels=pixels)
    assert pixels.read == ["0", "1", "1"]


def test_contexts_computed_when_needed_equal_cached_ones(extractor):
    kept, lazy = extractor(), extractor(keep=False)
    rows = torch.tensor([2, 0])
    one = kept.extract(EXAMPLES, CAPTIONS, pixels=Counted()).context.select(rows)
    other = lazy.extract(EXAMPLES, CAPTIONS, pixels=Counted()).context.select(rows)
    torch.testing.assert_close(states(kept, one), states(lazy, other), rtol=1e-5, atol=1e-5)


def test_liked_and_disliked_pictures_are_told_apart(extractor):
    writer = HistoryWriter(extractor().language_model, SCENARIO)
    liked, disliked = writer.likes(EXAMPLES[2], CAPTIONS), writer.dislikes(EXAMPLES[2], CAPTIONS)
    assert [CAPTIONS[name] for name in ("2", "0")] == [f"\ufffc{one}\ufffc" for one in find_pictures(liked)]
    assert [CAPTIONS[name] for name in ("4", "3")] == [f"\ufffc{one}\ufffc" for one in find_pictures(disliked)]
    assert disliked.startswith("Sent by somebody else:\nsticker 4: ")


def test_keywords_are_scored_from_the_pictures(extractor):
    def scores(shown):
        captions = CAPTIONS | {"0": CAPTIONS[str(shown)]}
        user = [example("a", [0])]
        found = extractor().extract(user, captions, [Choose()], pixels=lambda items: IMAGES[[shown] * len(items)])
        return found.keywords(Choose())[0].scores[0]

    assert abs(scores(0) - scores(5)) > 1e-4


def test_the_oldest_items_that_do_not_fit_are_left_out_and_named(extractor, caplog):
    made = extractor(tokens=400)
    length = len(made.language_model.tokenize(CAPTIONS["0"]))
    made.language_model.limit = RESERVED + 3 * length  # two pictures with their words
    with caplog.at_level(logging.WARNING):
        found = made.extract([example("u", range(5))], CAPTIONS, pixels=Counted())
    tokens = found.context.select([0]).tokens[0]
    assert tokens.eq(made.language_model.picture_token).sum() == 2 * 400
    assert len(tokens) <= 3 * length
    assert "the oldest items are left out, up to 3 (user 'u')" in caplog.text
    shown = find_pictures(HistoryWriter(made.language_model, SCENARIO).likes(example("u", range(5)), CAPTIONS))
    assert [f"\ufffc{digest}\ufffc" for digest in shown] == [CAPTIONS["3"], CAPTIONS["4"]]


def test_a_model_that_reads_words_alone_refuses_pictures(tmp_path):
    reader = PreferenceExtractor(tiny_language_model(), SCENARIO, Cache(tmp_path), "tiny", Budget(len, 1000))
    with pytest.raises(PmgError, match=r"LlamaForCausalLM reads no pictures\. .* language_model=smolvlm") as caught:
        reader.extract(EXAMPLES, CAPTIONS, pixels=Counted())
    assert "\n" not in str(caught.value)


def test_items_without_pictures_are_refused():
    with pytest.raises(PmgError, match="PictureCaptioner needs images and this data has none"):
        caption_items(PictureCaptioner(), ITEMS)


def test_a_scenario_without_a_place_for_pictures_is_refused(extractor):
    made = extractor()
    made.scenario = replace(SCENARIO, line="{title}")
    with pytest.raises(PmgError, match=r"scenario\.line is '\{title\}': add \{caption\} to it"):
        made.extract(EXAMPLES, CAPTIONS, pixels=Counted())
