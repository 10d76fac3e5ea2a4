"""Conversations about looks: what users say follows from their look, and no two splits have a phrase in common."""

from __future__ import annotations

import random
from copy import deepcopy

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra

from pmg.configuration.instantiate import instantiate, register_configs, to_plain
from pmg.data.chats import USER
from pmg.domain import PmgError
from pmg.looks.conversations import LookChatDataset
from pmg.looks.phrases import SUBJECT

TOPICS = "data.looks.topics=[food-fruit,food-prepared,animal-mammal,animal-bird,face-smiling,tool,sport,event]"


@pytest.fixture(scope="module")
def config():
    register_configs()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_module("pmg.conf", version_base="1.3"):
        cfg = hydra.compose("train", ["data=look_chats", "scenario=looks", "run_dir=run", TOPICS])
    GlobalHydra.instance().clear()
    return cfg


@pytest.fixture(scope="module")
def data(config):
    return instantiate(config.data)


def changed(data, config, said_by="own", **values):
    """The same users, other conversations."""
    return LookChatDataset(data.looks, data.captioner, instantiate(config.data.conversations, **values), said_by)


def test_users_click_or_talk_or_do_both_and_keep_their_targets(data):
    chats, looks = data.examples("test", 10, 2), data.looks.examples("test", 10, 2)
    assert {example.labels["behaviour"] for example in chats} == {"clicks", "chat", "both"}
    for chat, look in zip(chats, looks, strict=True):
        assert (chat.id, chat.user, chat.target, chat.truth) == (look.id, look.user, look.target, look.truth)
        assert look.labels.items() <= chat.labels.items()
        assert set(data.labels) <= set(chat.labels)
        assert chat.history == (() if chat.labels["behaviour"] == "chat" else look.history)
        assert bool(chat.conversation) == (chat.labels["behaviour"] != "clicks") == bool(chat.labels["said_likes"])
    assert data.examples("test", 3, 1) == [chats[0], chats[2], chats[4]]


def test_statements_are_about_the_measured_words_of_the_look(data, config):
    options = {name: set(node.options) for name, node in config.scenario.attributes.items()}
    talk = changed(data, config, shares={"both": 1})
    for example in talk.examples("train", 6, 1):
        words, said = talk.words(example), example.labels
        assert all(word in options[name] for name, word in words.items())
        likes, dislikes = (set(said[key].split(", ")) - {""} for key in ("said_likes", "said_dislikes"))
        assert likes <= set(words.values())
        assert 1 <= len(likes) <= 3
        assert not dislikes & set(words.values())
        assert all(any(word in some for some in options.values()) for word in dislikes)
        assert example.conversation[0].speaker == example.conversation[-1].speaker == USER


def test_conversations_depend_on_the_user_alone(data, config):
    words = {"ground": "white ground", "colour": "red", "surface": "pixel art"}
    first, again, other = (changed(data, config, seed=seed).conversations for seed in (0, 0, 1))
    assert first.write("a", "test", words) == again.write("a", "test", words)
    assert first.write("a", "test", words) != first.write("b", "test", words)
    assert first.write("a", "test", words) != other.write("a", "test", words)
    assert [first.behaviour(user) for user in "abcdefgh"] != [other.behaviour(user) for user in "abcdefgh"]


def templates(phrases):
    """Sentences, and what words are called, of one split; in lower case."""
    return {text.casefold() for _, texts in phrases.sentences for text in texts}


def test_test_users_phrases_are_in_no_training_template(data, config):
    """The leak test: messages of test users, with their subject cut out and as they are, are in no other split."""
    phrases = data.conversations.phrases
    train, validation, test = (templates(phrases[split]) for split in ("train", "validation", "test"))
    assert not train & test
    assert not train & validation
    assert not validation & test
    rng, options = random.Random(0), {name: list(node.options) for name, node in config.scenario.attributes.items()}
    looks = [{name: rng.choice(words) for name, words in options.items()} for _ in range(300)]
    said = {
        split: {
            turn.text
            for number, words in enumerate(looks)
            for turn in data.conversations.write(f"{split}-{number}", split, words).turns
            if turn.speaker == USER
        }
        for split in ("train", "test")
    }
    assert said["train"]
    assert not said["train"] & said["test"]
    subjects = [text for words in phrases["train"].words.values() for some in words.values() for text in some]
    for text in subjects:
        if "{" not in text:
            assert not any(text in message for message in said["test"]), text
    starts = {sentence.partition(SUBJECT)[0] for sentence in (*phrases["train"].likes, *phrases["train"].dislikes)}
    assert not any(message.startswith(start) for message in said["test"] for start in starts if start)


def test_a_phrase_in_two_splits_is_refused(config):
    phrases = to_plain(config.data.conversations.phrases)
    leak = deepcopy(phrases)
    leak["test"]["likes"].append("i LOVE {subject}.")
    with pytest.raises(PmgError, match=r"'i love \{subject\}\.' is in train and in test, so it leaks"):
        instantiate(leak)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("likes", [], "likes is empty"),
        ("likes", ["I love it."], r"likes has 'I love it\.' with the places \[\]\. It needs \['\{subject\}'\]"),
        ("openings", ["{subject}?"], r"openings has '\{subject\}\?' with the places"),
    ],
)
def test_phrases_that_cannot_be_used_are_refused(config, key, value, message):
    phrases = to_plain(config.data.conversations.phrases.test)
    with pytest.raises(PmgError, match=f"data.conversations.phrases: {message}"):
        instantiate({**phrases, key: value})


def test_words_without_a_phrase_are_named(data):
    phrases, rng = data.conversations.phrases["test"], random.Random(0)
    assert phrases.express("ground", "white ground", rng) in phrases.words["ground"]["white ground"]
    assert "blue" in phrases.express("ground", "dark blue ground", rng)
    with pytest.raises(PmgError, match=r"words\.ground has nothing for 'dark grey ground'"):
        phrases.express("ground", "dark grey ground", rng)
    others = {phrases.other_word("colour", "red", rng) for _ in range(50)}
    assert len(others) > 5
    assert "red" not in others


def test_another_users_conversation_and_none_are_controls(data, config):
    own, other, none = (
        changed(data, config, said_by, shares={"both": 1}).examples("test", 3, 1)
        for said_by in ("own", "other", "none")
    )
    assert [one.conversation for one in other] == [own[number].conversation for number in (1, 2, 0)]
    assert all(
        len(one.conversation) == 2 * (1 + 2) - 1 for one in none
    )  # an opening and two distractors, with replies
    assert not any(one.labels["said_likes"] or one.labels["said_dislikes"] for one in none)
    assert [one.history for one in own] == [one.history for one in other] == [one.history for one in none]
    with pytest.raises(PmgError, match=r"shares: \{'talk': 1\}\. Give weights to clicks, chat, both"):
        changed(data, config, shares={"talk": 1})
