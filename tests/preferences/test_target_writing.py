"""Targets in a language model's own words: parsed, probed, and used by models that pass the probe alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pmg.cache import Cache, NoCache
from pmg.configuration.instantiate import instantiate
from pmg.domain import Example, Item, PmgError, Turn
from pmg.models.language.language_model import LanguageModel
from pmg.models.tiny_models import tiny_language_model
from pmg.preferences.extraction import PreferenceExtractor
from pmg.preferences.keywords import Budget
from pmg.preferences.target_extraction import probe_writing
from pmg.preferences.target_writing import TargetWriting, build_target_writing

WRITING = TargetWriting(
    "It shows", {"Happy!": ("sun",), "Sad.": ("rain", "tear")}, least=1.0, max_words=3, max_new_tokens=16
)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" a red sun.\nAnd", "a red sun"), ("a sun*", "a sun"), ('"a sun"', ""), (" a sun, \n", "a sun"),
        ("a sun that goes on", ""), ("one two three four.", ""), ("\n\n", ""), ("...", ""), (" 3 cats!", "3 cats"),
    ],
)  # fmt: skip
def test_an_answer_ends_and_is_short(text, answer):
    assert WRITING.parse(text, cut=True) == answer


def test_an_answer_that_the_model_ended_needs_no_mark():
    assert WRITING.parse(" a sun", cut=False) == "a sun"
    assert WRITING.parse("four words are many", cut=False) == ""


def test_an_answer_passes_with_one_of_the_words():
    assert WRITING.share_passed(["a Sun", "tears"]) == 0.5  # tears is another word
    assert WRITING.share_passed(["a sun", "one tear"]) == 1.0
    assert WRITING.share_passed(["sunny", ""]) == 0.0


@pytest.fixture
def extractor(compose, monkeypatch):
    """Its language model writes what the test says."""
    scenario = replace(instantiate(compose("generate", "scenario=chat_sticker").scenario), target_writing=WRITING)

    def build(answers, cache=None):
        monkeypatch.setattr(
            LanguageModel, "generate", lambda _, context, *rest: [answers.pop(0) for _ in context.lengths]
        )
        return PreferenceExtractor(tiny_language_model(), scenario, cache or NoCache(), "tiny", Budget(len, 1000))

    return build


CHATS = [
    Example(str(row), "u", (), Item(str(row), str(row), ""), (), {}, (Turn("me", text),))
    for row, text in enumerate(("I won!", "It rains."))
]


def test_a_model_that_passes_writes_and_what_is_unusable_is_ranked(extractor):
    built = extractor(["a sun.", "a tear.", "a gold cup.", "many words that never end"])
    first, second = built.targets(CHATS).values()
    assert first.words == ("a gold cup", "sticker")
    emotions = built.scenario.target_attributes["emotion"].options
    assert second.words[0] in emotions


def test_a_model_that_fails_ranks_options_and_is_probed_once(extractor, tmp_path):
    built, answers = None, ["a sun.", "a cat."]
    for _ in range(2):
        built = extractor(answers, Cache(tmp_path))
        words = [each.words for each in built.targets(CHATS).values()]
        assert all(row[0] in built.scenario.target_attributes["emotion"].options for row in words)
    assert answers == []


@pytest.mark.parametrize("probe", [{"message": "m"}, {"message": "m", "words": ["x"], "word": 1}])
def test_a_probe_of_other_keys_is_refused(probe):
    with pytest.raises(PmgError, match=r"target_writing\.probes need a message and words each; one has message"):
        build_target_writing("It shows", [probe], 1.0, 3, 16)


def test_a_scenario_without_a_probe_is_refused(extractor):
    with pytest.raises(PmgError, match=r"target_writing\.probes needs messages"):
        replace(extractor([]).scenario, target_writing=replace(WRITING, probes={}))


@pytest.mark.slow
def test_the_embedded_model_does_not_pass(compose, capsys):
    """What docs/conversations.md says: three of eight."""
    cfg = compose("generate", "experiment=chat_stickers")
    scenario, model = instantiate(cfg.scenario), instantiate(cfg.language_model)
    share = probe_writing(model, scenario, scenario.target_writing)
    with capsys.disabled():
        print(f"\nshare of the probe: {share:.3f}")
    assert share < scenario.target_writing.least
