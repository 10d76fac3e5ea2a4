"""Chats from a file, and the shipped ones."""

from __future__ import annotations

import json

import pytest

from pmg.data.chats import ChatDataset, load_chats
from pmg.domain import PmgError, Turn

ROW = {
    "id": "a",
    "target": "cat",
    "messages": [{"role": "friend", "name": "Lena", "content": "Hi!"}, {"role": "user", "content": "Good news"}],
}


def write(tmp_path, *rows):
    file = tmp_path / "chats.jsonl"
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return file


def test_rows_become_examples(tmp_path):
    first, second = load_chats(
        write(tmp_path, ROW, "", {**ROW, "id": "b", "user": "u7", "labels": {"emotion": "sad"}})
    )
    assert (first.id, first.user, second.user) == ("a", "a", "u7")
    assert first.conversation == (Turn("Lena", "Hi!"), Turn("me", "Good news"))
    assert (first.history, first.truth, first.target.title) == ((), (), "cat")
    assert second.labels == {"emotion": "sad"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "row 2: not JSON"),
        ("[1]", "row 2: not a JSON object"),
        (ROW, "row 2: id 'a' is used twice"),
        ({**ROW, "id": "b", "message": []}, "row 2: unknown key 'message'; did you mean 'messages'?"),
        (
            {**ROW, "id": "b", "history": [{"title": "cat", "fact": {}}]},
            "row 2: unknown key 'history.0.fact'; did you mean 'facts'?",
        ),
        ({**ROW, "id": ""}, "row 2: 'id' must be text that isn't empty, got ''"),
        ({**ROW, "id": "b" * 101}, "row 2: 'id' "),
        ({"id": "b", "target": "cat"}, "row 2: 'messages' is missing"),
        ({**ROW, "id": "b", "user": 7}, "row 2: 'user' must be text, got 7"),
        ({**ROW, "id": "b", "messages": []}, "row 2: 'messages' must have at least one message"),
        (
            {**ROW, "id": "b", "messages": ["Hi"]},
            "row 2: 'messages.0' must be an object",
        ),
        (
            {**ROW, "id": "b", "messages": [*ROW["messages"], {"role": "user", "content": " "}]},
            "row 2: 'messages.2.content' must be text that isn't empty",
        ),
        ({**ROW, "id": "b", "messages": "Hi"}, "row 2: 'messages' must be a list, got 'Hi'"),
        ({**ROW, "id": "b", "messages": [{"role": "me", "contents": "Hi"}]}, "row 2: 'messages.0.content' is missing"),
        ({**ROW, "id": "b", "labels": ["sad"]}, "row 2: 'labels' must map names to words"),
    ],
)
def test_bad_row_names_file_and_row(tmp_path, row, message):
    file = write(tmp_path, ROW, row)
    with pytest.raises(PmgError) as caught:
        load_chats(file)
    assert str(caught.value).startswith(f"{file}, {message}")


def test_line_separators_inside_of_messages_end_no_row(tmp_path):
    text = "one\u2028two\u0085three"
    row = {**ROW, "messages": [{"role": "user", "content": text}]}
    (found,) = load_chats(write(tmp_path, json.dumps(row, ensure_ascii=False)))
    assert found.conversation == (Turn("me", text),)


def test_missing_and_empty_files_are_refused(tmp_path):
    with pytest.raises(PmgError, match="nowhere is missing"):
        load_chats(tmp_path / "nowhere")
    with pytest.raises(PmgError, match="holds no chats"):
        load_chats(write(tmp_path, ""))


def test_a_dozen_chats_are_shipped_each_with_the_user_in_it(root):
    chats = load_chats(root / "assets" / "chats" / "chats.jsonl")
    assert len(chats) == 12
    assert all(any(turn.speaker == "me" for turn in chat.conversation) for chat in chats)


def test_a_row_without_a_target_has_an_item_without_a_title(tmp_path):
    row = {"id": "b", "messages": ROW["messages"], "history": [{"title": "dog"}, {"title": "ghost", "liked": False}]}
    _, example = load_chats(write(tmp_path, ROW, row))
    assert example.target.title == ""
    assert ([item.title for item in example.liked], [item.title for item in example.disliked]) == (["dog"], ["ghost"])


def test_conversations_are_test_users_without_pictures(tmp_path):
    file = write(tmp_path, {**ROW, "user": "u"}, {**ROW, "id": "b"}, {**ROW, "id": "c", "user": "u"})
    data = ChatDataset(str(file))
    assert [example.id for example in data.examples("test")] == ["a", "c", "b"]
    assert [example.id for example in data.examples("test", 1, 1)] == ["a"]
    assert len({example.profile for example in data.examples("test")}) == 3  # each conversation is read
    with pytest.raises(PmgError, match="no true images to train with"):
        data.examples("train")
    with pytest.raises(PmgError, match="no pictures: use captioner=metadata"):
        data.images.rows([data.examples("test")[0].target])
