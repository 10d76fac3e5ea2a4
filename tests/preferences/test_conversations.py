"""Conversations through pmg-generate: targets that are named, and targets that the language model proposes."""

from __future__ import annotations

import json

import pytest


@pytest.mark.slow
def test_each_conversation_gets_an_image(pmg, tmp_path):
    rows = [
        {"id": "a", "target": "cat", "messages": [{"role": "user", "content": "We won the cup!"}]},
        {"id": "b", "messages": [{"role": "user", "content": "We lost."}], "history": [{"title": "dog", "facts": {
            "colour": "full colour", "outline": "no outline", "shading": "flat"}}]},
    ]  # fmt: skip
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = pmg(
        "generate", "experiment=chat_stickers", "data.file=chats.jsonl", "generator=tiny", "scorer=tiny",
        "text_encoder=tiny", "language_model=tiny", "sampling.steps=1", "run_dir=made",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    records = [json.loads(line) for line in (tmp_path / "made" / "records.jsonl").read_text().splitlines()]
    own = {record["example"]: record["target_keywords"] for record in records if record["control"] == "own"}
    assert own["a"][0] == "cat"
    assert own["b"][-1] == "sticker"
    assert len(own["b"]) == 4  # emotion, expression, posture, and the scene
