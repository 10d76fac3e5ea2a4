"""Opinions about messages, with a tiny model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pmg.cache import Cache
from pmg.configuration.instantiate import instantiate
from pmg.domain import Example, Item, PmgError, Turn
from pmg.models.tiny_models import tiny_language_model
from pmg.preferences.extraction import PreferenceExtractor
from pmg.preferences.keyword_decoding import Choose, ChooseCalibrated
from pmg.preferences.keywords import Budget, attribute_scores
from pmg.preferences.opinions import judge_messages, split_messages
from pmg.preferences.scenarios import verbalize_conversation, verbalize_dislikes

CHAT = (
    Turn("me", "I love pixel art."),
    Turn("assistant", "Noted."),
    Turn("me", "No neon.\nNever!"),
    Turn("me", "Bye"),
)
ITEM = Item("a", "a", "dog")


@pytest.fixture(scope="module")
def language_model():
    return tiny_language_model()


@pytest.fixture
def scenario(compose):
    return instantiate(compose("train", "scenario=look_chats", "scenario.match=null").scenario)


def test_opinions_are_measured_from_the_references(language_model, scenario):
    messages = ["I love it.", "I hate it.", "I hate\nit."]
    opinions = judge_messages(language_model, messages, scenario)
    plain = judge_messages(
        language_model, [*scenario.reference_messages, *messages], replace(scenario, reference_messages=())
    )
    zero = plain[: len(scenario.reference_messages)].mean()
    torch.testing.assert_close(opinions, plain[len(scenario.reference_messages) :] - zero, atol=1e-4, rtol=0)
    assert float(opinions[1]) == pytest.approx(float(opinions[2]), abs=1e-4)  # a line break is no end of a message
    context = language_model.prefill(["Review: I love it.\n"])
    ((scores,),) = [language_model.score_shared_options(context, "Sentiment:", [" positive", " negative"]).tolist()]
    assert float(plain[-3]) == pytest.approx(scores[0] - scores[1], abs=1e-4)
    with pytest.raises(PmgError, match="scenario 'look_chats' has no opinion"):
        judge_messages(language_model, messages, replace(scenario, opinion=None, dislike_chat_template=""))


def test_messages_of_the_user_alone_are_split():
    liked, disliked = split_messages(CHAT, [0.5, -0.1, 0.0])
    assert liked == (CHAT[0], CHAT[3])
    assert disliked == (CHAT[2],)


@pytest.mark.parametrize(
    ("opinions", "liked", "disliked"), [([1.0, -1.0, 1.0], (0, 3), (2,)), ([-1.0] * 3, (), (0, 2, 3))]
)
def test_what_is_said_becomes_positive_and_negative_keywords(
    language_model, scenario, tmp_path, monkeypatch, opinions, liked, disliked
):
    monkeypatch.setattr("pmg.preferences.extraction.judge_messages", lambda *_: torch.tensor(opinions))
    extractor = PreferenceExtractor(language_model, scenario, Cache(tmp_path), "tiny", Budget(len, 1000))
    example = Example("e", "u", (), ITEM, (), {}, CHAT)
    choose = Choose()
    extracted = extractor.extract([example], {}, [choose], [choose], progress=iter)
    whole = language_model.prefill([verbalize_conversation(CHAT, scenario)])
    assert torch.equal(extracted.context.select([0]).tokens[0], whole.tokens[0])  # the soft branch reads all of it
    texts = {
        "liked": verbalize_conversation([CHAT[place] for place in liked], scenario) if liked else None,
        "disliked": verbalize_dislikes(
            replace(example, conversation=tuple(CHAT[place] for place in disliked)), scenario
        ),
    }
    words = {
        name: set(choose(language_model, language_model.prefill([text]), scenario.attributes)[0].words)
        if text
        else set()
        for name, text in texts.items()
    }
    (positive,), (negative,) = extracted.keywords(choose), extracted.negative(choose)
    assert set(positive.words) == words["liked"]
    assert set(negative.words) == words["disliked"] - words["liked"]


def test_without_an_opinion_all_that_is_said_is_liked(language_model, scenario, tmp_path):
    plain = replace(scenario, opinion=None, dislike_chat_template="")
    extractor = PreferenceExtractor(language_model, plain, Cache(tmp_path), "tiny", Budget(len, 1000))
    choose = Choose()
    extracted = extractor.extract([Example("e", "u", (), ITEM, (), {}, CHAT)], {}, [choose], [choose], progress=iter)
    context = language_model.prefill([verbalize_conversation(CHAT, scenario)])
    assert extracted.keywords(choose)[0].words == choose(language_model, context, scenario.attributes)[0].words
    assert extracted.negative(choose)[0].words == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"opinion": None}, "dislike_chat_template needs an opinion"),
        ({"message_template": "Review:\n"}, "message_template needs {message}"),
        (
            {"message_template": "{messages}"},
            "message_template has no placeholder {messages}; did you mean 'message'?",
        ),
        ({"dislike_chat_template": "{history}{instruction}"}, "dislike_chat_template needs {conversation}"),
    ],
)
def test_scenarios_that_cannot_judge_are_refused(scenario, changes, message):
    with pytest.raises(PmgError) as caught:
        replace(scenario, **changes)
    assert message in str(caught.value)


def test_an_opinion_has_two_options(scenario):
    with pytest.raises(PmgError, match="opinion needs two options"):
        replace(scenario, opinion=replace(scenario.opinion, options=("good", "bad", "none")))


def test_calibrated_scores_are_less_those_of_texts_without_content(language_model, scenario):
    texts, references = ["me: I love pixel art.\n", "me: Blue!\n"], ["me: N/A\n", "N/A\n"]
    calibrated = ChooseCalibrated(references=references)
    context = language_model.prefill(texts)
    scores = attribute_scores(language_model, context, scenario.attributes)
    without = attribute_scores(language_model, language_model.prefill(references), scenario.attributes)
    for row, words in enumerate(calibrated(language_model, context, scenario.attributes)):
        best = [
            attribute.options[int((scores[name][row] - without[name].mean(0)).argmax())]
            for name, attribute in scenario.attributes.items()
        ]
        assert list(words.words) == best
    with pytest.raises(PmgError, match=r"decoding\.references is empty"):
        ChooseCalibrated(references=[])(language_model, context, scenario.attributes)
