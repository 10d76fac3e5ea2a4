"""Decoding attributes: options ranked in one pass, and free text."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pmg.configuration.instantiate import instantiate
from pmg.domain import PmgError
from pmg.models.language.language_model import LanguageModel
from pmg.models.tiny_models import tiny_language_model
from pmg.preferences.keyword_decoding import Choose, ChooseCalibrated, Generate
from pmg.preferences.keywords import attribute_scores
from pmg.preferences.scenarios import Attribute
from scores import score_shared_options

ATTRIBUTES = {
    "outline": Attribute("Their favourite outline is", ("none", "thick black", "thin"), "thick black"),
    "shading": Attribute("Their favourite shading is", ("flat", "soft gradients")),
}
TEXTS = ["apple, flat\n", "dog, thick black outline, black and white\n", "cat\n"]
GENERATE = Generate("{question} (a list{example}):", ", such as: {example}", max_new_tokens=12)


@pytest.fixture(scope="module")
def language_model():
    return tiny_language_model()


@pytest.fixture(scope="module")
def context(language_model):
    return language_model.prefill(TEXTS)


def test_chosen_keywords_are_the_likeliest_options(language_model, context):
    keywords = Choose()(language_model, context, ATTRIBUTES)
    for place, attribute in enumerate(ATTRIBUTES.values()):
        options = [f" {option}" for option in attribute.options]
        scores = score_shared_options(language_model, context, attribute.question, options)
        for row, chosen in enumerate(keywords):
            assert chosen.words[place] == attribute.options[int(scores[row].argmax())]
            assert chosen.scores[place] == pytest.approx(float(scores[row].log_softmax(-1).max()), abs=1e-4)


def test_several_options_an_attribute_are_merged_in_turn(language_model, context):
    one, two = (Choose(per_attribute=count, limit=3)(language_model, context, ATTRIBUTES) for count in (1, 2))
    assert all(words.words[:2] == first.words and len(words.words) == 3 for words, first in zip(two, one, strict=True))


def test_an_open_attribute_can_not_be_chosen(language_model, context):
    with pytest.raises(PmgError, match=r"attribute 'actor' has no options .* decoding=generate"):
        Choose()(language_model, context, {**ATTRIBUTES, "actor": Attribute("Their favourite actor is")})


def test_without_attributes_nothing_is_named(language_model, context):
    assert [words.words for words in GENERATE(language_model, context, {})] == [(), (), ()]


def test_examples_go_into_the_prompt_where_there_are_any():
    assert GENERATE.write_prompt(ATTRIBUTES["outline"]) == (
        "Their favourite outline is (a list, such as: thick black):"
    )
    assert GENERATE.write_prompt(ATTRIBUTES["shading"]) == "Their favourite shading is (a list):"


def test_generated_keywords_of_a_batch_equal_those_of_each_text_alone(language_model, context):
    together = GENERATE(language_model, context, ATTRIBUTES)
    again = GENERATE(language_model, context, ATTRIBUTES)
    assert together == again
    assert any(keywords.words for keywords in together)
    for row in range(len(TEXTS)):
        (alone,) = GENERATE(language_model, context.select([row]), ATTRIBUTES)
        assert alone.words == together[row].words
        torch.testing.assert_close(torch.tensor(alone.scores), torch.tensor(together[row].scores), atol=1e-4, rtol=0)


def test_generated_keywords_are_few_and_different(language_model, context):
    for keywords in GENERATE(language_model, context, ATTRIBUTES):
        assert len(keywords.words) <= min(GENERATE.limit, 2 * GENERATE.per_attribute)
        assert len({word.casefold() for word in keywords.words}) == len(keywords.words)


def test_what_is_no_list_is_written_again_with_sampling(language_model, context, monkeypatch):
    answers, asked = iter([["red, gold", "", ""], ["", "teal, pink"], ["blue, grey"]]), []

    def write(_, context, prompt, longest, *sampling):
        asked.append((len(context), *sampling))
        return next(answers)

    monkeypatch.setattr(LanguageModel, "generate", write)
    found = replace(GENERATE, max_new_tokens=64)(language_model, context, {"outline": ATTRIBUTES["outline"]})
    assert [set(keywords.words) for keywords in found] == [{"red", "gold"}, {"blue", "grey"}, {"teal", "pink"}]
    assert asked == [(3, 0.0, 0), (2, GENERATE.temperature, 1), (1, GENERATE.temperature, 2)]


def test_one_more_question_makes_one_list_of_all_lists(language_model, context, monkeypatch):
    whole = {0: "calm, mint, calm", 1: "no list at all, since it goes on and on and on", 2: "a, b, c, d, e, f"}
    prompts, rows = [], iter([0, 1, 1, 1, 2])

    def write(_, context, prompt, longest, *sampling):
        prompts.append((prompt, longest))
        if prompt.startswith("All"):
            return [whole[next(rows)]]
        return ["red, gold", "teal, grey", "pink"] if "outline" in prompt else ["flat", "flat, red", "soft"]

    monkeypatch.setattr(LanguageModel, "generate", write)
    decoding = replace(GENERATE, integrate="All, at most {limit} ({words}):", limit=4, max_new_tokens=64, max_words=2)
    found = [set(keywords.words) for keywords in decoding(language_model, context, ATTRIBUTES)]
    assert found == [{"calm", "mint"}, {"teal", "grey", "flat", "red"}, {"a", "b", "c", "d"}]
    assert set(prompts[2][0].removeprefix("All, at most 4 (").removesuffix("):").split(", ")) == {
        "red",
        "gold",
        "flat",
    }
    assert [longest for _, longest in prompts] == [64, 64, *[128] * 5]


@pytest.mark.parametrize("option", ["choose", "generate"])
def test_options_of_the_configuration_answer(compose, language_model, context, option):
    decoding = instantiate(compose("train", f"decoding={option}", "scenario=items").decoding)
    assert len(decoding(language_model, context, ATTRIBUTES)) == len(TEXTS)
    assert repr(decoding) == repr(instantiate(compose("train", f"decoding={option}").decoding))


def test_calibrated_scores_are_less_those_of_texts_without_content(language_model, context):
    references = ["N/A\n", "me: N/A\n"]
    scores = attribute_scores(language_model, context, ATTRIBUTES)
    without = attribute_scores(language_model, language_model.prefill(references), ATTRIBUTES)
    for row, words in enumerate(ChooseCalibrated(references=references)(language_model, context, ATTRIBUTES)):
        best = [
            attribute.options[int((scores[name][row] - without[name].mean(0)).argmax())]
            for name, attribute in ATTRIBUTES.items()
        ]
        assert list(words.words) == best
    with pytest.raises(PmgError, match=r"decoding\.references is empty"):
        ChooseCalibrated(references=[])(language_model, context, ATTRIBUTES)
