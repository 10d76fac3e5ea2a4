"""The lint that counts metaphor words in docstrings and comments."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "words.py"
SOURCE = '''"""What nobody knows, and `ask` or ``told``, which are code."""


class Table:
    """Rows that lie on disk.

    A run which is told to
    go
    on reads them again.
    """

    rows: int
    """How it stands: an attribute has a docstring too."""


def ask(known: str) -> str:
    text = "ask whoever lives there"  # met by every user, of live tensors too
    return text + known
'''


@pytest.fixture(scope="module")
def words():
    spec = importlib.util.spec_from_file_location("words", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["words"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["words"]


def test_words_of_docstrings_and_comments_are_counted_with_their_lines(words):
    found = [(finding.line, finding.word) for finding in words.findings_in(SOURCE)]
    assert found == [(1, "nobody"), (1, "knows"), (5, "lie"), (7, "told"), (8, "go on"), (13, "stands"), (17, "met")]


TECHNICAL = ["Moves the layout.", "Gives unknown keys.", "Alive, dealership, basket."]
TECHNICAL += ["A well-known bound of live bytes.", "A stand-alone file."]


@pytest.mark.parametrize("text", TECHNICAL)
def test_parts_of_words_and_technical_terms_are_not_counted(words, text):
    assert words.findings_in(f'"""{text}"""\n') == []


def test_fails_above_the_limit_alone(words, tmp_path, capsys):
    Path(tmp_path, "module.py").write_text(SOURCE)
    lines = len(SOURCE.splitlines())
    assert words.main([str(tmp_path), "--limit", str(1000 * 7 / lines)]) == 0
    assert words.main([str(tmp_path), "--limit", "300"]) == 1
    assert f"7 metaphor words in {lines} lines" in capsys.readouterr().out


def test_missing_folder_is_an_error(words, tmp_path):
    with pytest.raises(SystemExit) as error:
        words.main([str(tmp_path / "absent")])
    assert error.value.code == 2
