"""The examples of docs/extending.md run as they are written."""

from __future__ import annotations

import re
import sys

import pytest

import pmg
from plugins import write_examples
from pmg.configuration import targets


@pytest.fixture
def examples(root, tmp_path, monkeypatch):
    """The current folder holds the files of the document's first section."""
    text = (root / "docs" / "extending.md").read_text()
    write_examples(text, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(targets, "_allowed", {})
    yield text
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_module_in_the_current_folder_decodes_keywords(examples, tmp_path):
    (snippet,) = re.findall(r"```python\n(import pmg\n.*?)```", examples, re.DOTALL)
    names: dict = {}
    exec(snippet, names)
    assert names["data"].examples("test", 2, 1)
    scenario = pmg.instantiate(names["cfg"].scenario)
    (keywords,) = names["decoding"](None, range(1), scenario.attributes)
    firsts = {option for attribute in scenario.attributes.values() for option in attribute.options[:2]}
    assert set(keywords.words) <= firsts
    assert keywords.words
