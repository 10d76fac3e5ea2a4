"""Parses lists of keywords in generated text."""

from __future__ import annotations

import re
from collections.abc import Iterator

SEPARATORS = re.compile(r"[,;，；、،؛|]|\s+(?=\(?\d{1,2}[.)]\s)")  # the last: numbers of a list on one line
BULLET = re.compile(r"^\s*(?:[-*+•·‣◦–—]+\s+|[•·‣◦]|\(?\d{1,2}[.):](?!\d)\)?\s*|\(?[a-zA-Z][.)]\s+)")
CONJUNCTION = re.compile(r"^(?:and|or|&)\s+", re.IGNORECASE)
INTRODUCTION = re.compile(r"^.*[:：](?:\s+|$)")
SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[。！？]")
ABBREVIATION = re.compile(r"\b(?:Dr|Mr|Mrs|Ms|St|Jr|Sr|vs|[A-Z])$")
WRAPPING = " \t\"'`*_“”‘’„«»‹›「」『』()[]<>"


def parse_list(text: str, max_words: int = 4, cut: bool = False) -> tuple[str, ...]:
    """Returns the keywords of a list, without numbering, bullets, quotes, introduction and trailing sentences.

    Hyphens, digits and words of any script are kept.

    Args:
        text: a list with commas, one keyword a line, or numbered; sentences around it are ignored.
        max_words: longest keyword, in words; longer pieces are ignored.
        cut: whether the text was cut off at its longest, so that its last piece may be half a word.

    Returns:
        Different keywords (whatever their case) in the order of the text; none where it holds no list.
    """
    if cut:
        ends = [match.start() for match in re.finditer(rf"\n|{SEPARATORS.pattern}", text)]
        text = text[: ends[-1]] if ends else text
    found: dict[str, str] = {}
    for piece in _pieces(text):
        if len(piece.split()) <= max_words and any(character.isalnum() for character in piece):
            found.setdefault(piece.casefold(), piece)
    return tuple(found.values())


def _pieces(text: str) -> Iterator[str]:
    """Yields the pieces of all lines that belong to the list."""
    before = None  # the form of the last line that gave something
    for line in text.splitlines():
        if not line.strip():
            before = before and ("ended" if before == "bare" else before)
            continue
        form = _form(line)
        if before is not None and not (before == "open" or form == before != "inline"):
            return
        pieces, ended = _split(line)
        if pieces:
            yield from pieces
            before = "open" if line.rstrip().endswith((",", "，", "、", ";")) else form
        if ended:
            return


def _form(line: str) -> str:
    """Returns the form of a line: with a ``bullet``, ``inline`` with separators, or ``bare`` (one keyword)."""
    if BULLET.match(line):
        return "bullet"
    return "inline" if SEPARATORS.search(line) else "bare"


def _split(line: str) -> tuple[list[str], bool]:
    """Returns the keywords of one line, and whether a sentence follows them, which ends the list."""
    pieces: list[str] = []
    line = INTRODUCTION.sub("", BULLET.sub("", line, count=1), count=1)
    for raw in SEPARATORS.split(line):
        piece, rest = _first_sentence(BULLET.sub("", raw.strip(), count=1))
        piece = " ".join(CONJUNCTION.sub("", piece.strip(WRAPPING)).strip(WRAPPING).split())
        if piece:
            pieces.append(piece)
        if rest.strip(WRAPPING):
            return pieces, True
    return pieces, False


def _first_sentence(text: str) -> tuple[str, str]:
    """Returns the text up to its first full stop that is not an abbreviation's, and what follows it."""
    for match in SENTENCE_END.finditer(text):
        if not ABBREVIATION.search(text[: match.start()]):
            return text[: match.start()], text[match.end() :]
    return text, ""
