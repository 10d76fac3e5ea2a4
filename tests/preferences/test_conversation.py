"""Target keywords of conversations, with a tiny model; and once with the real one, over the shipped chats."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pmg.configuration.instantiate import instantiate
from pmg.data.chats import load_chats
from pmg.domain import PmgError, Turn
from pmg.models.tiny_models import tiny_language_model
from pmg.preferences.keywords import attribute_scores
from pmg.preferences.scenarios import Attribute, verbalize_conversation, verbalize_history
from pmg.preferences.target_extraction import chat_keywords
from scores import score_shared_options

CHATS = [
    (Turn("Lena", "Did you pass?"), Turn("me", "Yes!")),
    (Turn("me", "My dog ran away and I can't find him."),),
    (Turn("me", "Good night"), Turn("Sam", "So early?"), Turn("me", "I am tired")),
]


@pytest.fixture(scope="module")
def language_model():
    return tiny_language_model()


@pytest.fixture
def scenario(compose):
    return instantiate(compose("train", "scenario=chat_sticker").scenario)


def test_each_chat_gets_one_option_an_attribute_and_the_scene_words(language_model, scenario):
    keywords = chat_keywords(language_model, CHATS, scenario)
    assert len(keywords) == 3
    for words in keywords:
        *chosen, scene = words.words
        attributes = scenario.target_attributes.values()
        assert all(word in attribute.options for word, attribute in zip(chosen, attributes, strict=True))
        assert (scene, words.scores[-1]) == ("sticker", 0)


def ranked(language_model, texts, questions, options, references):
    """The best options behind texts without the first `references`, and by how much they beat the mean of those."""
    context = language_model.prefill(texts)
    rows = [
        score_shared_options(language_model, context.select([row]), question, [f" {word}" for word in options])[0]
        for row, question in enumerate(questions)
    ]
    scores = torch.stack(rows)
    gains, places = (scores - scores[:references].mean(0)).max(1)
    return [options[place] for place in places], gains


def test_answers_are_measured_from_the_references_and_read_before_the_next_question(language_model, scenario):
    references = [(Turn("me", message),) for message in scenario.reference_messages]
    texts = [verbalize_conversation(turns, scenario) for turns in (*references, *CHATS)]
    emotion, expression, _ = scenario.target_attributes.values()
    first, gains = ranked(language_model, texts, [emotion.question] * len(texts), emotion.options, len(references))
    stories = [f"{emotion.question} {word}\n{expression.question}" for word in first]
    second, _ = ranked(language_model, texts, stories, expression.options, len(references))
    keywords = chat_keywords(language_model, CHATS, scenario)
    own = slice(len(references), None)
    assert [words.words[:2] for words in keywords] == list(zip(first[own], second[own], strict=True))
    torch.testing.assert_close(torch.tensor([words.scores[0] for words in keywords]), gains[own], atol=1e-4, rtol=0)


def test_without_references_the_likeliest_option_wins(language_model, scenario):
    emotion = scenario.target_attributes["emotion"]
    context = language_model.prefill([verbalize_conversation(turns, scenario) for turns in CHATS])
    scores = score_shared_options(language_model, context, emotion.question, [f" {word}" for word in emotion.options])
    keywords = chat_keywords(language_model, CHATS, replace(scenario, reference_messages=()))
    assert [words.words[0] for words in keywords] == [emotion.options[place] for place in scores.argmax(1)]


def test_keywords_of_a_batch_equal_those_of_each_chat_alone(language_model, scenario):
    together = chat_keywords(language_model, CHATS, scenario)
    for turns, words in zip(CHATS, together, strict=True):
        (alone,) = chat_keywords(language_model, [turns], scenario)
        assert alone.words == words.words
        assert alone.scores == pytest.approx(words.scores, abs=1e-4)


def test_scenario_that_cannot_answer_is_refused(language_model, scenario):
    with pytest.raises(PmgError, match="scenario 'chat_sticker' has no target_attributes"):
        chat_keywords(language_model, CHATS, replace(scenario, target_attributes={}))
    with pytest.raises(PmgError, match="target_attributes mood need options"):
        chat_keywords(language_model, CHATS, replace(scenario, target_attributes={"mood": Attribute("I feel")}))


@pytest.mark.slow
def test_real_language_model_reads_all_example_chats(compose, scenario, root):
    cfg = compose("train", "preference_encoder=text", f"paths.cache_dir={root / 'outputs' / 'cache'}")
    language_model = instantiate(cfg.language_model)
    chats = load_chats(root / "assets" / "chats" / "chats.jsonl")
    targets = chat_keywords(language_model, [chat.conversation for chat in chats], scenario)
    emotions = [words.words[0] for words in targets]
    assert all(set(words.words[:3]) <= all_options(scenario.target_attributes) for words in targets)
    # of eight emotions guessing gives 1.5 of 12 right; 9 were measured
    assert sum(word == chat.labels["emotion"] for word, chat in zip(emotions, chats, strict=True)) >= 7
    context = language_model.prefill([verbalize_history(chat, scenario) for chat in chats])
    taste = attribute_scores(language_model, context, scenario.attributes)
    assert {name: tuple(scores.shape) for name, scores in taste.items()} == {
        name: (len(chats), len(attribute.options)) for name, attribute in scenario.attributes.items()
    }
    assert all(scores.isfinite().all() for scores in taste.values())
    assert all((scores.std(dim=0) > 0).all() for scores in taste.values()), "chats must make a difference"


def all_options(attributes):
    return {option for attribute in attributes.values() for option in attribute.options}
