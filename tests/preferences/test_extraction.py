"""The extraction of preferences: what is read once, what is cached, what is disliked, and what does not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pmg.cache import Cache
from pmg.domain import Example, Interaction, Item, Keywords
from pmg.models.tiny_models import tiny_language_model
from pmg.preferences import extraction
from pmg.preferences.extraction import PreferenceExtractor, select_part
from pmg.preferences.keyword_decoding import Choose
from pmg.preferences.keywords import Budget, from_tensors, scored, target_keywords, to_tensors
from pmg.preferences.scenarios import Attribute, Scenario

SCENARIO = Scenario(
    name="test",
    template="Sent:\n{history}\n{instruction}",
    line="{title}",
    caption="",
    max_items=12,
    attributes={
        "outline": Attribute("Their favourite outline is", ("none", "thick black", "thin")),
        "shading": Attribute("Their favourite shading is", ("flat", "soft gradients", "glossy")),
    },
    target_prefix="A sticker of: ",
    target_question="\nIt shows:",
    scene_words=("emoji",),
    dislike_template="Sent by somebody else:\n{history}\n{instruction}",
)
ITEMS = [
    Item("a", "a", "red apple", keywords=("fruit", "red", "food")),
    Item("b", "b", "dog"),
    Item("c", "c", "rocket", keywords=("space", "red planet", "launch", "fast ship")),
]


def example(user, *interactions):
    return Example(f"{user}-0", user, interactions, ITEMS[0], ())


EXAMPLES = [
    example("u0", Interaction(ITEMS[0]), Interaction(ITEMS[1])),
    example("u1", Interaction(ITEMS[1]), Interaction(ITEMS[2], liked=False)),
]


BOTH = {"decodings": [Choose()], "dislikes": [Choose()]}


@pytest.fixture
def extractor(tmp_path):
    """Builds readers over one cache, each with a language model of its own."""

    def build(scenario=SCENARIO, limit=1000, identity="tiny", keep=True):
        budget = Budget(len, limit)  # counts characters
        return PreferenceExtractor(tiny_language_model(), scenario, Cache(tmp_path), identity, budget, keep)

    return build


def test_second_extraction_computes_nothing_and_gives_the_same(extractor):
    first, second = extractor(), extractor()
    extracted, targets = first.extract(EXAMPLES, **BOTH), first.describe(ITEMS)
    assert first.language_model.tokens_computed > 0
    again = second.extract(EXAMPLES, **BOTH)
    assert (again.liked, again.disliked) == (extracted.liked, extracted.disliked)
    assert second.describe(ITEMS) == targets
    assert second.language_model.tokens_computed == 0


def test_unkept_contexts_are_read_when_asked_for_and_say_the_same(extractor):
    kept = extractor().extract(EXAMPLES, **BOTH)
    unkept = extractor(keep=False)
    extracted = unkept.extract(EXAMPLES, **BOTH)
    assert (extracted.liked, extracted.disliked) == (kept.liked, kept.disliked)
    assert unkept.language_model.tokens_computed == 0  # the keywords were known
    assert len(extracted.context) == len(kept.context)
    one, other = (each.context.select(torch.tensor([1, 0])) for each in (extracted, kept))
    assert torch.equal(one.lengths, other.lengths)
    torch.testing.assert_close(one.to_tensors(), other.to_tensors())  # wherever they are stored
    assert unkept.language_model.tokens_computed > 0


def test_targets_are_cached_one_by_one(extractor):
    extractor().describe(ITEMS[:2])
    later = extractor()
    later.describe(ITEMS)
    alone = tiny_language_model()
    target_keywords(alone, ITEMS[2:], SCENARIO)
    assert later.language_model.tokens_computed == alone.tokens_computed


@pytest.mark.parametrize(
    "changes",
    [
        {"identity": "other"},
        {"scenario": replace(SCENARIO, target_question="\nIt has:")},
        {"scenario": replace(SCENARIO, scene_words=("sticker",))},
    ],
)
def test_other_prompts_and_models_are_read_anew(extractor, changes):
    extractor().describe(ITEMS)
    other = extractor(**changes)
    other.describe(ITEMS)
    assert other.language_model.tokens_computed > 0


def test_dislikes_give_negative_keywords_that_are_not_liked_too(extractor):
    extracted = extractor().extract(EXAMPLES, **BOTH)
    assert extracted.negative(Choose())[0] == Keywords(())
    model = tiny_language_model()
    disliked = Choose()(model, model.prefill(["Sent by somebody else:\nrocket\n"]), SCENARIO.attributes)[0].words
    liked = extracted.keywords(Choose())[1].words
    assert extracted.negative(Choose())[1].words == tuple(word for word in disliked if word not in liked)


def test_for_dislikes_alone_the_likes_of_others_are_not_decoded(extractor):
    both, alone = extractor(identity="both"), extractor(identity="alone")
    expected = both.extract(EXAMPLES, **BOTH)
    extracted = alone.extract(EXAMPLES, dislikes=[Choose()])
    assert extracted.negative(Choose()) == expected.negative(Choose())
    without_dislikes = extractor(identity="none")
    assert without_dislikes.extract(EXAMPLES[:1], dislikes=[Choose()]).negative(Choose()) == [Keywords(())]
    prefilled = extractor(identity="prefilled")
    prefilled.extract(EXAMPLES[:1])
    computed = (one.language_model.tokens_computed for one in (without_dislikes, prefilled))
    assert len(set(computed)) == 1


def test_users_are_read_once(extractor):
    extracted = extractor().extract([*EXAMPLES, *EXAMPLES], **BOTH)
    assert extracted.profiles == ["u0", "u1"]
    assert len(extracted.context) == len(extracted.keywords(Choose())) == len(extracted.negative(Choose())) == 2
    assert extracted.rows(["u1", "u0", "u1"]) == [1, 0, 1]


def test_a_user_at_another_time_is_read_again(extractor):
    later = replace(EXAMPLES[0], history=EXAMPLES[1].history, moment="7")
    extracted = extractor().extract([EXAMPLES[0], later], **BOTH)
    assert extracted.profiles == ["u0", "u0@7"]
    assert extracted.keywords(Choose())[1] == extractor().extract(EXAMPLES, **BOTH).keywords(Choose())[1]


def test_two_decodings_share_one_prefill(extractor):
    once, both = extractor(identity="once"), extractor(identity="both")
    single = once.extract(EXAMPLES, decodings=[Choose()])
    extracted = both.extract(EXAMPLES, decodings=[Choose(), Choose(per_attribute=2), Choose()], dislikes=[])
    assert extracted.keywords(Choose()) == single.keywords(Choose())
    assert all(len(words.words) == 4 for words in extracted.keywords(Choose(per_attribute=2)))
    questions = both.language_model.tokens_computed - once.language_model.tokens_computed
    assert 0 < questions < once.language_model.tokens_computed  # of the second decoding alone, no second prefill
    assert extracted.disliked == {}


def test_keywords_beyond_the_budget_are_dropped_and_named(extractor):
    whole, short = extractor().describe(ITEMS)["c"], extractor(limit=22).describe(ITEMS)["c"]
    assert whole.dropped == ()
    assert set(short.words) | set(short.dropped) == set(whole.words)
    assert {"rocket", "emoji"} <= set(short.words)
    assert len(str(short)) <= 22
    assert min(short.scores) >= max(score for word, score in scored(whole) if word in short.dropped)


def test_stored_keywords_are_the_same_keywords():
    keywords = [Keywords(("café", "レトロ"), (-1.5, -0.1)), Keywords(()), Keywords(("a",), (), ("b",))]
    assert from_tensors(to_tensors(keywords)) == keywords


def test_parts_are_read_once_between_them(extractor, monkeypatch):
    monkeypatch.setattr(extraction, "ENTRY", 2)
    users = [example(f"u{number}", Interaction(ITEMS[number % 3])) for number in range(7)]
    parts = [select_part([*users, *users], index, 2) for index in range(2)]
    assert [[one.user for one in part] for part in parts] == [["u0", "u1", "u4", "u5"] * 2, ["u2", "u3", "u6"] * 2]
    assert select_part(users, 4, 5) == []  # fewer chunks than parts
    for part in parts:
        one = extractor()
        one.extract(part, **BOTH)
        assert one.language_model.tokens_computed > 0
    whole = extractor()
    found = whole.extract(users, **BOTH)
    assert whole.language_model.tokens_computed == 0
    assert found.profiles == [one.user for one in users]
    assert found.keywords(Choose()) == extractor(identity="another").extract(users, **BOTH).keywords(Choose())
