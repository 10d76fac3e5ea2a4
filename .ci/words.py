"""Counts metaphor words in docstrings and comments, and fails above a limit.

    python .ci/words.py                     # totals, and a line for each file with a finding
    python .ci/words.py --show src/pmg/runs # each finding with its line

The rate is findings per thousand lines of all files that were read, blank lines included. Text in backticks
is code and isn't counted.
"""

import argparse
import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 1.0  # findings per thousand lines; lowered as the text improves

WORDS = {
    "stand": "stand stands standing stood",
    "lie": "lie lies lying lay lain",
    "live": "live lives living lived",
    "deal": "deal deals dealing dealt dealer",
    "tell": "tell tells telling told",
    "ask": "ask asks asking asked asker",
    "know": "know knows knowing knew known",
    "go on": "go on|goes on|going on|went on|gone on",
    "give again": "give again|gives again|giving again|gave again|given again",
    "nobody": "nobody",
    "somebody": "somebody",
    "everybody": "everybody",
    "whoever": "whoever",
    "believe": "believe believes believing believed",
    "meet": "meet meets meeting met",
    "take away": "take away|takes away|taking away|took away|taken away",
}
# terms of the field and of libraries in which such a word is no metaphor
TERMS = (
    r"well[- ]known",
    r"live (?:tensors?|bytes|objects?|memory|variables?|display)",  # allocated now; redrawn in place
    r"live server",
    r"known issue",
    r"stand-?alone",
)


class Finding(NamedTuple):
    """A word of `WORDS` in a docstring or comment."""

    path: Path
    line: int
    word: str
    text: str


def _pattern() -> re.Pattern[str]:
    """Matches each form of each word, with any white space inside a form of two words."""
    forms = []
    for listed in WORDS.values():
        forms += listed.split("|") if "|" in listed else listed.split()
    return re.compile(r"\b(" + "|".join(re.escape(form).replace(r"\ ", r"\s+") for form in forms) + r")\b", re.I)


PATTERN = _pattern()
EXCLUDED = re.compile(r"(`+)[^`\n]*\1|\b(?:" + "|".join(TERMS) + r")\b", re.I)


def _comments(source: str) -> Iterator[tuple[int, str]]:
    """Yields the line number and text of each comment."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def _docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yields the first line number and text of each docstring, of attributes too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def findings_in(source: str, path: Path = Path("<text>")) -> list[Finding]:
    """Returns the findings of one Python source, in the order of its lines."""
    found = []
    for line, text in [*_docstrings(source), *_comments(source)]:
        kept = EXCLUDED.sub(lambda match: " " * len(match.group()), text)
        for match in PATTERN.finditer(kept):
            at = line + kept[: match.start()].count("\n")
            found.append(
                Finding(path, at, " ".join(match.group().lower().split()), source.splitlines()[at - 1].strip())
            )
    return sorted(found, key=lambda finding: finding.line)


def _files(paths: Iterable[Path]) -> list[Path]:
    return sorted(file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path]))


def main(arguments: list[str] | None = None) -> int:
    """Prints the findings of the given files or folders, and returns 1 above the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("paths", nargs="*", type=Path, default=[ROOT / "src" / "pmg"], help="files or folders")
    parser.add_argument("--limit", type=float, default=LIMIT, help=f"findings per thousand lines ({LIMIT})")
    parser.add_argument("--show", action="store_true", help="print each finding with its line")
    options = parser.parse_args(arguments)
    if absent := [str(path) for path in options.paths if not path.exists()]:
        parser.error(f"no such file or folder: {', '.join(absent)}")
    lines = total = 0
    for file in _files(options.paths):
        source = file.read_text(encoding="utf-8")
        found = findings_in(source, file)
        lines += len(source.splitlines())
        total += len(found)
        name = file.resolve().relative_to(ROOT) if file.resolve().is_relative_to(ROOT) else file
        if found and not options.show:
            print(f"{len(found):4d}  {name}")
        for finding in found if options.show else ():
            print(f"{name}:{finding.line}: {finding.word}: {finding.text}")
    rate = 1000 * total / max(lines, 1)
    print(f"{total} metaphor words in {lines} lines: {rate:.1f} per thousand (limit {options.limit:g})")
    if rate > options.limit:
        print("Too many metaphor words. Name what the code does; --show prints each line.")
    return int(rate > options.limit)


if __name__ == "__main__":
    sys.exit(main())
