"""Measured accuracy of opinions about messages, with the real language model."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from pmg.cache import NoCache
from pmg.configuration.instantiate import instantiate
from pmg.looks.phrases import SUBJECT
from pmg.preferences.extraction import PreferenceExtractor
from pmg.preferences.keywords import Budget
from pmg.preferences.opinions import judge_messages


@pytest.fixture
def real(compose, root):
    """The real language model, the scenario, the data set, and both decodings."""
    cfg = compose("train", "data=look_chats", "scenario=look_chats", "preference_encoder=text",
                  "decoding=choose_calibrated",
                  "data.conversations.shares={clicks: 0, chat: 1, both: 0}",
                  f"paths.cache_dir={root / 'outputs' / 'cache'}")  # fmt: skip
    nodes = (cfg.language_model, cfg.scenario, cfg.data, cfg.decoding, cfg.text_encoder)
    return [instantiate(node) for node in nodes]


@pytest.mark.slow
def test_real_language_model_judges_test_users_sentences(real):
    """Not untouched: questions and references were compared with results of all phrases in sight."""
    language_model, scenario, data, *_ = real
    phrases, rng = data.conversations.phrases["test"], random.Random(0)
    right = []
    for sign, sentences in ((1, phrases.likes), (-1, phrases.dislikes)):
        texts = []
        for number in range(60):
            name = rng.choice(sorted(scenario.attributes))
            subject = phrases.express(name, rng.choice(scenario.attributes[name].options), rng)
            texts.append(sentences[number % len(sentences)].replace(SUBJECT, subject))
        right.append(float((judge_messages(language_model, texts, scenario) * sign > 0).float().mean()))
    print("likes and dislikes recognised:", right)
    assert sum(right) / 2 >= 0.75


@pytest.mark.slow
def test_judged_and_matched_messages_keep_dislikes_out_of_positive_keywords(real):
    language_model, scenario, data, calibrated, text_encoder = real
    examples = data.examples("test", 24, 1)
    found = {}
    judged = replace(scenario, match=None)
    plain = replace(judged, opinion=None, dislike_chat_template="")
    for name, own in (("matched", scenario), ("judged", judged), ("plain", plain)):
        extractor = PreferenceExtractor(
            language_model, own, NoCache(), "real", Budget(len, 10_000), False, text_encoder=text_encoder
        )
        words = extractor.extract(examples, {}, [calibrated], progress=iter).keywords(calibrated)
        for key in ("said_likes", "said_dislikes"):
            said = [(word, chosen.words) for example, chosen in zip(examples, words, strict=True)
                    for word in example.labels[key].split(", ") if word]  # fmt: skip
            found[name, key] = sum(word in chosen for word, chosen in said) / len(said)
        found[name, "words"] = sum(len(chosen.words) for chosen in words) / len(words)
    print("found among positive keywords:", found)
    assert found["judged", "said_dislikes"] < found["plain", "said_dislikes"]
    assert found["matched", "said_dislikes"] < found["judged", "said_dislikes"]
    assert found["matched", "said_likes"] > found["judged", "said_likes"]
    assert found["matched", "words"] < found["judged", "words"]  # nothing of what wasn't mentioned
