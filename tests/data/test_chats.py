"""Chats from a file, and the shipped ones."""

from __future__ import annotations

import json

import pytest

from pmg.data.chats import load_chats
from pmg.domain import PmgError, Turn

ROW = {
    "id": "a",
    "target": "cat",
    "turns": [{"speaker": "Lena", "text": "Hi!"}, {"speaker": "me", "text": "Good news"}],
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
        ({**ROW, "id": "b", "turn": []}, "row 2: unknown key 'turn'; did you mean 'turns'?"),
        ({**ROW, "id": ""}, "row 2: 'id' must be text that isn't empty, got ''"),
        ({"id": "b", "turns": ROW["turns"]}, "row 2: 'target' is missing"),
        ({**ROW, "id": "b", "user": 7}, "row 2: 'user' must be text, got 7"),
        ({**ROW, "id": "b", "turns": []}, "row 2: 'turns' must have at least one message"),
        (
            {**ROW, "id": "b", "turns": ["Hi"]},
            "row 2: 'turns.0' must be an object with 'speaker' and",
        ),
        (
            {**ROW, "id": "b", "turns": [*ROW["turns"], {"speaker": "me", "text": " "}]},
            "row 2: 'turns.2.text' must be text that isn't empty",
        ),
        ({**ROW, "id": "b", "turns": "Hi"}, "row 2: 'turns' must be a list, got 'Hi'"),
        ({**ROW, "id": "b", "turns": [{"speaker": "me", "texts": "Hi"}]}, "row 2: 'turns.0.text' is missing"),
        ({**ROW, "id": "b", "labels": ["sad"]}, "row 2: 'labels' must map names to words"),
    ],
)
def test_bad_row_names_file_and_row(tmp_path, row, message):
    file = write(tmp_path, ROW, row)
    with pytest.raises(PmgError) as caught:
        load_chats(file)
    assert str(caught.value).startswith(f"{file}, {message}")


def test_missing_and_empty_files_are_refused(tmp_path):
    with pytest.raises(PmgError, match="nowhere is missing"):
        load_chats(tmp_path / "nowhere")
    with pytest.raises(PmgError, match="holds no chats"):
        load_chats(write(tmp_path, ""))


def test_a_dozen_chats_are_shipped_each_with_the_user_in_it(root):
    chats = load_chats(root / "assets" / "chats" / "chats.jsonl")
    assert len(chats) == 12
    assert all(any(turn.speaker == "me" for turn in chat.conversation) for chat in chats)
