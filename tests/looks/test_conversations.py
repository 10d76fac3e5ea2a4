"""Conversations about looks: what users say follows from their look, and no two splits have a phrase in common."""

from __future__ import annotations

import json
import random
from copy import deepcopy

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra

from looks import FEW_TOPICS
from pmg.configuration.instantiate import instantiate, register_configs, to_plain
from pmg.data.chats import USER
from pmg.domain import Item, PmgError
from pmg.looks.chat_dataset import CHANNELS, LookChatDataset
from pmg.looks.conversations import Wishes
from pmg.looks.finishes import AS_DRAWN
from pmg.looks.phrases import OTHER, SUBJECT

SHADINGS = ("line drawing", "soft shading", "flat shapes")
TOPICS = f"data.looks.topics=[{','.join(FEW_TOPICS)}]"


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


def changed(data, config, channel="split", said_by="own", mixed=0.0, shown=0.0, train_shown=0.0, **values):
    """The same users, who behave in another way."""
    conversations = instantiate(config.data.conversations, **values)
    return LookChatDataset(
        data.looks, data.captioner, conversations, channel, shown=shown, train_shown=train_shown, mixed=mixed,
        said_by=said_by,
    )  # fmt: skip


def own_text(example):
    return [turn.text for turn in example.conversation if turn.speaker == USER]


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.parametrize("channel", CHANNELS)
def test_users_behave_by_channel_and_keep_their_targets(data, config, channel):
    chats, looks = changed(data, config, channel).examples("test", 6, 2), data.looks.examples("test", 6, 2)
    for chat, look in zip(chats, looks, strict=True):
        assert (chat.id, chat.user, chat.target, chat.truth) == (look.id, look.user, look.target, look.truth)
        assert look.labels.items() <= chat.labels.items()
        assert set(data.labels) <= set(chat.labels)
        assert chat.labels["channel"] == channel
        assert bool(chat.conversation) == (channel != "pictures") == bool(chat.labels["said_likes"])
        assert bool(chat.history) == (channel != "words")
        assert (chat.history == look.history) == (channel == "pictures")
    assert changed(data, config, channel).examples("test", 3, 1) == [chats[0], chats[2], chats[4]]


def test_what_users_wrote_themselves_takes_the_place_of_made_conversations(data, config, tmp_path):
    path = tmp_path / "messages.jsonl"
    row = {
        "user": "test-00001",
        "messages": ["Plain white behind it.", "No border."],
        "wants": {"ground": "white ground"},
    }
    path.write_text(json.dumps(row) + "\n")
    made = changed(data, config).examples("test", 2, 1)
    first, second = changed(data, config, file=str(path)).examples("test", 2, 1)
    assert first == made[0]
    assert own_text(second) == row["messages"]
    assert (second.labels["said_likes"], second.history) == ("white ground", made[1].history)
    path.write_text('{"user": "test-00001"}\n')
    with pytest.raises(PmgError, match=r"data\.conversations\.file=.*messages\.jsonl can't be read \(KeyError"):
        changed(data, config, file=str(path)).examples("test", 2, 1)


def finishes(data, example):
    return [data.images.picture(one.item).finish for one in example.history]


def test_clicks_are_as_drawn_where_the_finish_is_said_but_for_a_share(data, config):
    looks = data.looks.examples("test", 6, 1)
    for shown in (0.0, 0.5, 1.0):
        split = changed(data, config, shown=shown).examples("test", 6, 1)
        same = [
            one == other
            for chat, look in zip(split, looks, strict=True)
            for one, other in zip(finishes(data, chat), finishes(data, look), strict=True)
        ]
        plain = [one == AS_DRAWN for chat in split for one in finishes(data, chat)]
        assert sum(plain) + sum(same) == len(same)
        assert abs(sum(same) / len(same) - shown) < 0.2


def test_training_users_have_their_own_share_of_clicks_that_show_the_finish(data, config):
    def shares(split, **values):
        found = changed(data, config, **values).examples(split, 8, 1)
        return [sum(one != AS_DRAWN for one in finishes(data, chat)) / len(chat.history) for chat in found]

    assert len(set(shares("train", train_shown=None))) > 4
    assert set(shares("train", shown=1.0)) == {0.0} == set(shares("test", train_shown=None))
    assert min(shares("train", train_shown=1.0)) > 0.5


@pytest.mark.parametrize("channel", ["split", "conflict"])
def test_users_whose_history_lacks_the_artist_click_all_the_same(data, config, channel, monkeypatch):
    chats = changed(data, config, channel, mixed=1.0)
    artists = iter(range(1000))
    monkeypatch.setattr(chats, "_artist", lambda picture: f"artist {next(artists)}")
    monkeypatch.setattr(chats, "_draw_others", lambda *_: [])
    (example,) = chats.examples("test", 1, 1)
    assert len(example.history) >= 4
    assert example.labels["mixed"] == "no"


@pytest.mark.slow
def test_training_users_who_say_little_state_a_part_of_it_and_nothing_else(data, config):
    full, brief = (
        changed(data, config, "words", brief=share, replies=0.0).examples("train", 24, 1) for share in (0.0, 1.0)
    )
    counts = [len(one.conversation) for one in brief]
    assert min(counts) == 1 < max(counts)
    for one, other in zip(brief, full, strict=True):
        assert {*own_text(one)} < {*own_text(other)}
        stated = sum(len(one.labels[name].split(", ")) for name in ("said_likes", "said_dislikes") if one.labels[name])
        assert len(one.conversation) <= stated
    same = [changed(data, config, "words", brief=share).examples("test", 3, 1) for share in (0.0, 1.0)]
    assert same[0] == same[1]


def test_an_earlier_wish_comes_before_the_one_that_counts(data, config):
    """In messages of their own or in one; words of the pictures are said only as what was liked before."""
    talk, found = changed(data, config, "conflict", likes=6, dislikes=0, distractors=0), 0
    phrases = talk.conversations.phrases["train"]
    for example in talk.examples("train", 12, 1):
        shown = talk.words([one.item for one in example.history])
        likes, dislikes = (example.labels[key].split(", ") for key in ("said_likes", "said_dislikes"))
        for word in set(shown.values()) & set(dislikes):
            attribute = next(name for name, value in shown.items() if value == word)
            now = talk.words(references(example)).get(attribute)
            if now not in likes:
                continue
            said = own_text(example)
            places = [
                next(i for i, text in enumerate(said) if any(name.casefold() in text.casefold() for name in names))
                for names in (ways(phrases, attribute, word), ways(phrases, attribute, now))
            ]
            found += 1
            assert places[0] <= places[1]
    assert found > 5


def references(example):
    return [Item(name, "", "") for name in example.labels["look_references"].split()]


def ways(phrases, attribute, word):
    return {phrases.express(attribute, word, random.Random(seed)) for seed in range(400)}


def test_another_persons_pictures_are_named(data, config):
    mixed = changed(data, config, mixed=1.0).examples("test", 6, 1)
    artists = data.looks.drawings.artists
    for example, look in zip(mixed, data.looks.examples("test", 6, 1), strict=True):
        assert example.labels["mixed"] == "yes"
        own = artists[data.images.picture(look.truth[0]).row]
        mine, theirs = (
            {one.item.title for one in example.history if (artists[data.images.picture(one.item).row] == own) == of}
            for of in (True, False)
        )
        assert len(mine) == len(theirs) > 0
        assert not {one.item.concept for one in example.history} & {look.target.concept}
        said = " ".join(own_text(example))
        named = [titles for titles in (mine, theirs) if all(f"the {title}" in said for title in titles)]
        assert named, said


@pytest.mark.ci
@pytest.mark.slow
def test_statements_are_about_the_measured_words_of_the_look(data, config):
    options = {name: set(node.options) for name, node in config.scenario.attributes.items()}
    talk = changed(data, config, "words")
    for example in talk.examples("train", 6, 1):
        words, said = talk.words(references(example)), example.labels
        assert all(word in options[name] for name, word in words.items())
        likes, dislikes = (set(said[key].split(", ")) - {""} for key in ("said_likes", "said_dislikes"))
        assert likes <= set(words.values())
        assert 1 <= len(likes) <= 5
        assert not dislikes & set(words.values())
        assert all(any(word in some for some in options.values()) for word in dislikes)
    artist = [changed(data, config, channel, likes=6).examples("train", 6, 1) for channel in ("split", "conflict")]
    assert not any(word in example.labels["said_likes"] for some in artist for example in some for word in SHADINGS)


def test_pairs_don_t_say_by_their_order_which_word_is_wanted(config):
    """Some sentences of each split have the wanted word first, some the other."""
    for split in ("train", "validation", "test"):
        for key in ("pairs", "changes"):
            firsts = [
                text.index(SUBJECT) < text.index(OTHER) for text in config.data.conversations.phrases[split][key]
            ]
            assert {True, False} == set(firsts), (split, key)


def test_conversations_depend_on_the_user_alone(data, config):
    wishes = Wishes({"ground": "white ground", "colour": "red", "surface": "pixel art"}, {"colour": "blue"})
    first, again, other = (changed(data, config, seed=seed).conversations for seed in (0, 0, 1))
    assert first.write("a", "test", wishes) == again.write("a", "test", wishes)
    assert first.write("a", "test", wishes) != first.write("b", "test", wishes)
    assert first.write("a", "test", wishes) != other.write("a", "test", wishes)


def test_training_users_have_channels_by_weight(data):
    assert {example.labels["channel"] for example in data.examples("train", 20, 1)} == set(CHANNELS)
    assert {example.labels["channel"] for example in data.examples("test", 5, 1)} == {"split"}
    with pytest.raises(PmgError, match=r"data\.train_channels: .+chat.+ Give weights to pictures, words"):
        LookChatDataset(data.looks, data.captioner, data.conversations, "split", train_channels={"chat": 1})


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
            for turn in data.conversations.write(f"{split}-{number}", split, Wishes(words, {})).turns
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


def test_words_and_sentences_of_another_split(data, config):
    """So results can be told apart by seen and unseen words and sentences."""
    phrases, wishes = data.conversations.phrases, Wishes({"surface": "pixel art"}, {})
    seen = changed(data, config, words_from="train", sentences_from="validation", distractors=0, dislikes=0, pairs=0)
    text = seen.conversations.write("a", "test", wishes).turns[1].text
    assert any(name in text.casefold() for name in phrases["train"].words["surface"]["pixel art"])
    assert any(text.endswith(one.partition(SUBJECT)[2]) for one in phrases["validation"].likes)


def test_another_users_conversation_none_and_shuffled_words_are_controls(data, config):
    own, other, none, shuffled = (
        changed(data, config, said_by=said_by).examples("test", 3, 1)
        for said_by in ("own", "other", "none", "shuffled")
    )
    assert [one.conversation for one in other] == [own[number].conversation for number in (1, 2, 0)]
    assert all(len(own_text(one)) == 1 + 2 for one in none)  # an opening and two distractors
    for one, disordered in zip(own, shuffled, strict=True):
        assert one.conversation != disordered.conversation
        for turn, text in zip(own_text(one), own_text(disordered), strict=True):
            assert sorted(turn.split()) == sorted(text.split())
